"""Starts the exporter of a gunicorn or a worker, and gives its processes a folder for values."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from django.conf import settings

# Where prometheus_client keeps values. It reads this when it is imported.
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
# In memory: values change with every event.
_MEMORY = "/dev/shm"  # noqa: S108 # nosec B108 # only for a folder with a random name and mode 0700
# The exporter needs none of our settings, and no secret.
_PASSED_ON = ("LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "SYSTEMROOT", "TMPDIR", "TZ")


def export(process: str) -> None:
    """Serve ``/metrics`` of this process, and of those that it forks, until it ends.

    Does nothing without ``METRICS_PORT``. Ends this process if the port is taken.

    :param process: its kind, for ``build_info``.
    """
    os.environ.pop(_DIRECTORY, None)  # a folder that processes share would mix their values
    if not settings.METRICS_PORT:
        return
    directory = tempfile.mkdtemp(
        prefix="switchhook-metrics-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None
    )
    os.environ[_DIRECTORY] = directory
    address = (settings.METRICS_HOST, str(settings.METRICS_PORT))
    exporter = subprocess.Popen(
        [
            *(sys.executable, "-m", "operations.metrics.exporter", *address),
            *(process, directory, str(os.getpid())),
        ],
        cwd=settings.BASE_DIR,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with exporter.stdout:  # type: ignore[union-attr]
        said = exporter.stdout.readline().strip()  # type: ignore[union-attr]
    if said != "ready":
        os.rmdir(directory)
        sys.exit(
            f"METRICS_PORT {settings.METRICS_PORT} on {settings.METRICS_HOST} cannot be used: "
            f"{said or 'the exporter did not start'}. Give each process of a machine a "
            "METRICS_PORT of its own."
        )


def is_exported() -> bool:
    """Return True if this process, or the one that forked it, serves ``/metrics``."""
    return _DIRECTORY in os.environ
