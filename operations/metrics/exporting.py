"""Starts the exporter of a gunicorn or a worker, and gives its processes a folder for values."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from threading import Thread

import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

# Where prometheus_client keeps values. It reads this when it is imported.
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
# In memory: values change with every event.
_MEMORY = "/dev/shm"  # noqa: S108 # nosec B108 # only for a folder with a random name and mode 0700
# The exporter needs none of our settings, and no secret.
_PASSED_ON = ("LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "SYSTEMROOT", "TMPDIR", "TZ")

# Between an exporter's end and the next one, which may fail too.
_AGAIN_S = 1.0
_ENDS_WITHIN_S = 2.0


def export(process: str) -> None:
    """Serve ``/metrics`` of this process, and of those that it forks, until it ends.

    Another exporter takes the place of one that ends before. Does nothing without ``METRICS_PORT``.
    Ends this process if the port is taken.

    :param process: its kind, for ``build_info``.
    """
    os.environ.pop(_DIRECTORY, None)  # a folder that processes share would mix their values
    if not settings.METRICS_PORT:
        return
    directory = tempfile.mkdtemp(
        prefix="switchhook-metrics-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None
    )
    os.environ[_DIRECTORY] = directory
    exporter = _Exporter(process, directory)
    if problem := exporter.start():
        os.rmdir(directory)
        sys.exit(
            f"METRICS_PORT {settings.METRICS_PORT} on {settings.METRICS_HOST} cannot be used: "
            f"{problem}. Give each process of a machine a METRICS_PORT of its own."
        )
    Thread(target=exporter.keep, name="metrics-exporter", daemon=True).start()
    atexit.register(exporter.end)


class _Exporter:
    """The exporter's process, a child of this one.

    :param reports: the kind of the process that it reports on.
    """

    def __init__(self, reports: str, directory: str) -> None:
        address = (settings.METRICS_HOST, str(settings.METRICS_PORT))
        self._command = [
            *(sys.executable, "-m", "operations.metrics.exporter", *address),
            *(reports, directory, str(os.getpid())),
        ]
        self._process: subprocess.Popen[str] | None = None
        self._parent = os.getpid()

    def start(self) -> str:
        """Return once it listens; return what is wrong if it does not, and otherwise ``""``."""
        self._process = subprocess.Popen(
            self._command,
            cwd=settings.BASE_DIR,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        with self._process.stdout as stdout:  # type: ignore[union-attr]
            said = stdout.readline().strip()
        return "" if said == "ready" else said or "the exporter did not start"

    def keep(self) -> None:
        """Start it again whenever it ends, with the values so far. Never returns.

        The system kills some process when memory runs out.
        """
        while True:
            self._process.wait()  # type: ignore[union-attr]
            time.sleep(_AGAIN_S)  # this process ends meanwhile if it is what ended the exporter
            try:
                problem = self.start()
            except OSError as error:  # no process or memory to spare
                problem = str(error)
            log.warning("metrics_exporter_ended", problem=problem or None)

    def end(self) -> None:
        """End it with this process. A service manager would kill what is left, and say so."""
        if os.getpid() != self._parent:  # a fork has inherited what its parent does at its end
            return
        self._process.send_signal(signal.SIGUSR1)  # type: ignore[union-attr]
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDS_WITHIN_S)  # type: ignore[union-attr]


def is_exported() -> bool:
    """Return True if this process, or the one that forked it, serves ``/metrics``."""
    return _DIRECTORY in os.environ
