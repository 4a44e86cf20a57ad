"""The ``web`` process as in production: a gunicorn with several workers, on the test's database."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.db import connection
from django.db.backends.base.creation import TEST_DATABASE_PREFIX

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Web:
    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Send SIGKILL to the arbiter and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def web_process(*, workers: int, **environment: str) -> Iterator[Web]:
    """Run it on a free port, which listens from the start, so that no connection is refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--config=config/gunicorn.conf.py"),
                *(f"--workers={workers}", f"--bind=fd://{listening.fileno()}"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "PROCESS": "web",
                "DJANGO_SETTINGS_MODULE": "config.settings_test",
                "DATABASE_URL": database_url(),
                **environment,
            },
            pass_fds=[listening.fileno()],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        web = Web(f"http://127.0.0.1:{listening.getsockname()[1]}", process)
    try:
        yield web
    finally:
        web.kill()


def is_free(port: int) -> bool:
    """Return True if a process can listen on the port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def database_url() -> str:
    """Return the URL of the test database, which exists only for tests marked ``django_db``."""
    database = connection.settings_dict
    # Never the development database: all its data would be deleted along with the test's.
    assert database["NAME"].startswith(TEST_DATABASE_PREFIX), "Mark the test with django_db."
    host = database["OPTIONS"].get("host") or database["HOST"]
    user, password = database["USER"], database["PASSWORD"]
    port = f"&port={database['PORT']}" if database["PORT"] else ""
    return f"postgresql://{user}:{password}@/{database['NAME']}?host={host}{port}"
