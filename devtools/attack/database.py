"""A database for the attacks, with the same tables as production.

dj-stripe's migrations take most of a minute. So its tables are created as in development, and its
migrations are faked. That happens once per set of migrations, and each run gets a copy.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from devtools.postgres import embedded_url
from devtools.processes import ROOT, Failed

_MIGRATED, _RUN = "attack_migrated_", "attack_run_"


@contextmanager
def own_database(local: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the URL of a migrated database, and drop it at the end."""
    local.mkdir(parents=True, exist_ok=True)
    server = embedded_url(local)
    migrated, mine = f"{_MIGRATED}{_digest_of_migrations()}", f"{_RUN}{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        with _alone(connection):
            _drop_what_is_left(connection)
            if not _exists(connection, migrated):
                _migrate(connection, server, migrated, environment)
            _run(connection, "CREATE DATABASE {} TEMPLATE {}", mine, migrated)
        try:
            yield _url(server, mine)
        finally:
            _run(connection, "DROP DATABASE {} WITH (FORCE)", mine)


@contextmanager
def _alone(connection: psycopg.Connection) -> Iterator[None]:
    """Hold a lock that other runs wait for."""
    connection.execute("SELECT pg_advisory_lock(1)")
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(1)")


def _migrate(
    connection: psycopg.Connection, server: str, name: str, environment: Mapping[str, str]
) -> None:
    unfinished = f"{name}_unfinished"
    _run(connection, "CREATE DATABASE {}", unfinished)
    production = {**environment, "DATABASE_URL": _url(server, unfinished)}
    _manage("migrate", environment={**production, "DEBUG": "1", "SANDBOX": "0"})
    _manage("migrate", "djstripe", "--fake", environment=production)
    _run(connection, "ALTER DATABASE {} RENAME TO {}", unfinished, name)


def _manage(*command: str, environment: Mapping[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "manage.py", *command, "--no-input", "--verbosity=0"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise Failed(f"manage.py {command[0]} failed: {ended.stderr[-500:]}")


def _digest_of_migrations() -> str:
    digest = hashlib.sha256(version("dj-stripe").encode())
    for path in sorted(ROOT.glob("*/migrations/*.py")):
        digest.update(path.read_bytes())
    for name in ("requirements.txt", "config/settings.py"):  # they say which apps there are
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()[:12]


def _drop_what_is_left(connection: psycopg.Connection) -> None:
    """Drop the databases of killed runs, and those with outdated migrations."""
    migrated = f"{_MIGRATED}{_digest_of_migrations()}"
    query = "SELECT datname FROM pg_database WHERE datname LIKE 'attack%'"
    for (name,) in connection.execute(query).fetchall():
        is_running = Path(f"/proc/{name.removeprefix(_RUN)}").exists()
        if name != migrated and not (name.startswith(_RUN) and is_running):
            _run(connection, "DROP DATABASE {} WITH (FORCE)", name)


def _exists(connection: psycopg.Connection, name: str) -> bool:
    query = "SELECT FROM pg_database WHERE datname = %s"
    return connection.execute(query, [name]).fetchone() is not None


def _run(connection: psycopg.Connection, statement: str, *names: str) -> None:
    identifiers = [sql.Identifier(name) for name in names]
    connection.execute(sql.SQL(statement).format(*identifiers))


def _url(server: str, database: str) -> str:
    return urlsplit(server)._replace(path=f"/{database}").geturl()
