"""The whole product in the sandbox, isolated from the developer's own.

It has a database that is created for the run and dropped afterwards, free ports, and none of the
caller's settings, so everything it talks to is the sandbox.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import psycopg
from django.core.exceptions import ImproperlyConfigured

from devtools import migrated
from devtools.development import LOCAL_DIR, end_on_signals, serve
from devtools.ports import free_ports
from devtools.postgres import embedded_url
from devtools.processes import Failed, Processes

_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TERM", "COLUMNS", "NO_COLOR", "CI")
# Here, everyone registers and signs in from the same address.
_NO_THROTTLE = dict.fromkeys(
    (
        "LOGINS_PER_ADDRESS",
        "LOGIN_FAILURES_PER_EMAIL",
        "REGISTRATIONS_PER_ADDRESS",
        "REGISTRATIONS_PER_EMAIL",
        "MAILS_PER_ADDRESS",
        "MAILS_PER_EMAIL",
    ),
    "1000000",
)

Work = Callable[[Processes], Coroutine[Any, Any, object]]


def run_isolated(name: str, work: Work) -> None:
    """Run the product while ``work`` runs; exit with one sentence if either fails.

    The product logs to ``.local/<name>.log``. The environment has its address in ``ISOLATED_URL``
    and the sandbox's in ``ISOLATED_SANDBOX_URL``.
    """
    log = LOCAL_DIR / f"{name}.log"
    try:
        LOCAL_DIR.mkdir(exist_ok=True)
        with own_database(name) as url:
            known = environment(url)
            os.environ.clear()
            os.environ.update(known)
            with log.open("w") as output:
                asyncio.run(_run(work, output))
    except asyncio.CancelledError:
        sys.exit(130)
    except (Failed, ImproperlyConfigured, psycopg.Error) as error:
        sys.exit(f"bin/{name}: {error} What ran has its log in {log}.")


@contextmanager
def own_database(name: str) -> Iterator[str]:
    """Yield the URL of a migrated database beside the default one, and drop it at the end."""
    server = os.environ.get("DATABASE_URL") or embedded_url(LOCAL_DIR)
    with migrated.own_database(server, "development", migrate, purpose=name) as url:
        yield url


def migrate(url: str) -> None:
    """Migrate a database for development."""
    migrated.manage("migrate", "--run-syncdb", environment=environment(url))


def environment(database_url: str) -> dict[str, str]:
    """Return the environment of the isolated product, without any of the caller's settings."""
    port, media_port, sandbox_port = map(str, free_ports(3))
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DEBUG": "1",
        "SANDBOX": "1",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DATABASE_URL": database_url,
        "PORT": port,
        "MEDIA_PORT": media_port,
        "SANDBOX_PORT": sandbox_port,
        "ISOLATED_URL": f"http://127.0.0.1:{port}",
        "ISOLATED_SANDBOX_URL": f"http://127.0.0.1:{sandbox_port}",
        **_NO_THROTTLE,
    }


async def _run(work: Work, output: TextIO) -> None:
    async with Processes(output) as processes:
        end_on_signals(processes)
        await serve(processes)
        await processes.unless_one_ends(work(processes))
