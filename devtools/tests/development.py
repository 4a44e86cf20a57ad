"""The whole program of ``bin/dev``, in processes of its own on the test's database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.tests.web import database_url
from devtools.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
_READY_WITHIN_S = 60
_ENDED_WITHIN_S = 30


class Development:
    """The running program; ``lines`` is its output so far."""

    def __init__(self, port: int, host: str, process: subprocess.Popen[str]) -> None:
        self.url = f"http://{host}:{port}"
        self.sandbox_url = f"http://127.0.0.1:{port + 2}"
        self.process = process
        self.lines: list[str] = []
        self._says_no_more = threading.Event()
        self._is_ready = threading.Event()
        # Keep reading: a process that writes to a full pipe blocks.
        threading.Thread(target=self._read, daemon=True).start()

    def wait_until_ready(self) -> None:
        assert self._is_ready.wait(_READY_WITHIN_S), "".join(self.lines)
        assert self.process.poll() is None, "".join(self.lines)

    def end(self) -> None:
        """Let it exit with its children; kill it if it does not."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_ENDED_WITHIN_S)
        finally:
            self.process.kill()
        self._says_no_more.wait(_ENDED_WITHIN_S)

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if f"Ready: {self.url}" in line:
                self._is_ready.set()
        self._is_ready.set()
        self._says_no_more.set()


@contextmanager
def development(host: str = "127.0.0.1", **environment: str) -> Iterator[Development]:
    """Run ``bin/dev`` until the end of the block; show its output if the test fails.

    :param host: the host name in its URLs.
    :param environment: further variables.
    """
    port = free_ports(3)[0]
    public = {"PUBLIC_URL": f"http://{host}:{port}"}
    known = development_environment(port) | public | environment
    with start(known, stderr=subprocess.STDOUT) as process:
        running = Development(port, host, process)
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.end()
            sys.stdout.write("".join(running.lines))


def development_environment(port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "DEBUG": "1",
        "SECRET_KEY": "x" * 50,
        "PORT": str(port),
        "DATABASE_URL": database_url(),
    }


def start(
    environment: dict[str, str], *mode: str, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "devtools.development", *(mode or ("dev",))],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
