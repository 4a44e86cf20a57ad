"""Databases that are copied from a migrated one, because migrating takes seconds.

The migrated one stays on the server until migrations, settings or packages change.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from devtools.processes import ROOT, Failed

_PREFIX = "switchhook"
_LOCK = 0x7377686B  # any number that nobody else takes

#: Migrates the empty database with this URL.
Migrate = Callable[[str], None]


def migrated_database(server: str, kind: str, migrate: Migrate, root: Path = ROOT) -> str:
    """Return the name of the migrated database, which is made first if there is none.

    :param server: the URL of any database on the server.
    :param kind: tells apart databases that are migrated in different ways.
    :param root: the checkout whose migrations these are.
    """
    of_kind = f"{_PREFIX}_{kind}_migrated_"
    name = of_kind + _digest(root)
    with _alone(server) as connection:
        there = _names(connection)
        if name not in there:
            for old in there:
                if old.startswith(of_kind):
                    _run(connection, "DROP DATABASE {} WITH (FORCE)", old)
            unfinished = f"{of_kind}unfinished"
            _run(connection, "CREATE DATABASE {}", unfinished)
            migrate(_url(server, unfinished))
            _run(connection, "ALTER DATABASE {} RENAME TO {}", unfinished, name)
    return name


@contextmanager
def own_database(
    server: str, kind: str, migrate: Migrate, *, purpose: str, root: Path = ROOT
) -> Iterator[str]:
    """Yield the URL of a migrated database of this process, and drop it at the end."""
    of_purpose = f"{_PREFIX}_{purpose}_of_"
    name = f"{of_purpose}{os.getpid()}"
    template = migrated_database(server, kind, migrate, root)
    with psycopg.connect(server, autocommit=True) as connection:
        for old in _names(connection):
            # Of a process that was killed.
            if old.startswith(of_purpose) and not Path(f"/proc/{old[len(of_purpose) :]}").exists():
                _run(connection, "DROP DATABASE IF EXISTS {} WITH (FORCE)", old)
        _run(connection, "CREATE DATABASE {} TEMPLATE {}", name, template)
        try:
            yield _url(server, name)
        finally:
            _run(connection, "DROP DATABASE {} WITH (FORCE)", name)


def manage(
    *command: str,
    environment: Mapping[str, str],
    root: Path = ROOT,
    python: str = sys.executable,
) -> None:
    """Run a command of ``manage.py``; raise :class:`Failed` with its last words."""
    ended = subprocess.run(
        [python, "manage.py", *command, "--no-input", "--verbosity=0"],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise Failed(f"manage.py {command[0]} failed: {ended.stderr[-500:]}")


@contextmanager
def _alone(server: str) -> Iterator[psycopg.Connection]:
    """Hold a lock that other processes wait for."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])  # until it is closed
        yield connection


def _names(connection: psycopg.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


def _digest(root: Path) -> str:
    """Return what the tables depend on: migrations, packages, and the settings that name apps."""
    files = ["requirements.lock", "config/settings.py"]
    migrations = sorted(root.glob("[!.]*/**/migrations/*.py"))
    digest = hashlib.sha256()
    for path in [*(root / name for name in files), *migrations]:
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _run(connection: psycopg.Connection, statement: str, *names: str) -> None:
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _url(server: str, database: str) -> str:
    return urlsplit(server)._replace(path=f"/{database}").geturl()
