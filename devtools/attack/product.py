"""The product in its production configuration: processes, settings, memory and logs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devtools.collected import collected_static_files
from devtools.development import LOCAL_DIR
from devtools.processes import ROOT, Failed, cpu_seconds

WEB, ENGINE, MEDIA, SECOND_ENGINE, SECOND_MEDIA = 8000, 8010, 8011, 8020, 8021
#: The servers, by the names of their processes.
PORTS = {"web": WEB, "engine": ENGINE, "engine-2": SECOND_ENGINE}
WORKER = "worker"
# Started in addition only for upgrades and clusters.
SECOND_WEB, THIRD_ENGINE, THIRD_MEDIA = 8030, 8040, 8041

#: The ports of all servers, by their names; an engine's media port is the next one.
ALL_PORTS = {**PORTS, "web-2": SECOND_WEB, "engine-3": THIRD_ENGINE}
_GUNICORN = ("-m", "gunicorn", "--config=config/gunicorn.conf.py")
_WORKER = ("manage.py", "worker", "--grace=1")

_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL")
_READY_WITHIN_S = 60.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


def settings() -> dict[str, str]:
    """Return the environment of a correct production setup, apart from where it runs."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "PUBLIC_URL": "https://app.example.com",
        "ENGINE_URL": "https://engine.example.com",
        "MEDIA_URL": "wss://media.example.com/media",
        "TWILIO_API_URL": "https://twilio.example.com",
        "OPENAI_REALTIME_URL": "wss://openai.example.com/openai/v1/realtime",
        "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(24)}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(24)}",
        "EMAIL_FROM": "Switchhook <no-reply@example.com>",
        "WEB_CONCURRENCY": "1",
        "STATIC_ROOT": str(collected_static_files(LOCAL_DIR)),
        # Without a network of our own, nothing listens at these addresses.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }


def in_namespace(variables: Mapping[str, str], authority: Path) -> dict[str, str]:
    """Return the settings for our own network, where every server has our certificate."""
    proxies = ("HTTPS_PROXY", "HTTP_PROXY")
    known = {name: value for name, value in variables.items() if name not in proxies}
    return {**known, "SSL_CERT_FILE": str(authority), "REQUESTS_CA_BUNDLE": str(authority)}


@dataclass(frozen=True, slots=True)
class Process:
    name: str
    popen: subprocess.Popen[bytes]

    def worker(self) -> int:
        """Return the process id of gunicorn's worker, or 0 if there is none."""
        pid = self.popen.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    @property
    def working(self) -> int:
        """The id of the process that does the work: gunicorn's worker, or the process itself."""
        return self.worker() or self.popen.pid

    def memory(self) -> int:
        """Return the resident memory of the process that does the work, in bytes."""
        try:
            pages = Path(f"/proc/{self.working}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * _PAGE

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process that does the work."""
        return cpu_seconds(self.working)


@dataclass
class Product:
    """``root`` is the checkout whose code is started from now on, by ``python``."""

    environment: dict[str, str]
    logs: Path
    variables: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # for one process only, by its name
    processes: dict[str, Process] = field(default_factory=dict)
    root: Path = ROOT
    python: str = sys.executable

    async def start(self, names: Sequence[str] = (*PORTS, WORKER)) -> None:
        """Start these processes; return when they are ready."""
        for name in names:
            self.begin(name)
        for name in names:
            if name in ALL_PORTS:
                await self.until_ready(ALL_PORTS[name])

    def begin(self, name: str) -> None:
        """Start a process, or restart one that has exited."""
        kind = name.partition("-")[0]
        command = _WORKER if kind == WORKER else _GUNICORN
        variables = {"PROCESS": kind, "PORT": str(ALL_PORTS[name])} if kind != WORKER else {}
        self._start(name, command, **variables, **self.variables.get(name, {}))

    def end(self) -> None:
        """Kill all processes and their children."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.popen.pid, signal.SIGKILL)
            process.popen.wait(10)

    def log_lines(self) -> list[tuple[str, str]]:
        """Return every logged line, with the name of its process."""
        return [
            (path.stem, line)
            for path in sorted(self.logs.glob("*.log"))
            for line in path.read_text(errors="replace").splitlines()
        ]

    async def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with the product's settings."""
        return await asyncio.to_thread(
            subprocess.run,
            [self.python, *command],
            cwd=self.root,
            env={**self.environment, "PYTHONPATH": str(self.root), **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _start(self, name: str, command: tuple[str, ...], **variables: str) -> None:
        with (self.logs / f"{name}.log").open("ab") as log:
            popen = subprocess.Popen(
                (self.python, *command),
                cwd=self.root,
                env={**self.environment, "PYTHONPATH": str(self.root), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = Process(name, popen)

    async def until_ready(self, port: int) -> None:
        """Wait until a process accepts requests; raise :class:`Failed` if one has exited."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while not await asyncio.to_thread(_is_ready, port):
            if ended := [p.name for p in self.processes.values() if p.popen.poll() is not None]:
                raise Failed(f"{ended[0]} has ended: {self._last_words(ended[0])}")
            if time.monotonic() > deadline:
                raise Failed(f"Nobody was ready on port {port} within {_READY_WITHIN_S:.0f} s.")
            await asyncio.sleep(0.2)

    def _last_words(self, name: str) -> str:
        lines = (self.logs / f"{name}.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


def _is_ready(port: int) -> bool:
    """Ask like a load balancer, without a library that might use proxies."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
