"""Checks of this machine."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings

from operations.doctor.findings import Check, Finding, Options, failed, ok, skipped, warning

# A call has two sockets. What gunicorn's configuration raises an engine's limit to, if it may.
ENOUGH_FILES = 65_536
FEWEST_FILES = 4_096
FILES_REMEDY = (
    "Raise the limit for the service: LimitNOFILE=65536 in a systemd unit, ulimits in compose, or "
    "ulimit -n in the shell that starts it."
)
_LEAST_MEMORY_MB = 256
_LEAST_DISK_MB = 500


def _files(subject: str, options: Options) -> Iterable[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= ENOUGH_FILES:
        yield ok(f"A process started from here may open {ENOUGH_FILES} files or more.")
        return
    said = (
        f"A process started from here may open {hard} files; a call takes two, a page one. "
        "Services may have limits of their own."
    )
    make = warning if hard >= FEWEST_FILES else failed
    yield make(said, FILES_REMEDY)


FILES = Check(
    "files",
    "Open files",
    "The limit on open files (`ulimit -n`), on this machine and in the engine behind `MEDIA_URL`.",
    _files,
)


def _space(subject: str, options: Options) -> Iterable[Finding]:
    memory = _available_memory_mb()
    if memory is None:
        yield skipped("This system does not say how much memory is available.")
    elif memory < _LEAST_MEMORY_MB:
        yield warning(
            f"{memory} MB of memory are available.",
            "Find out what uses it (top), before the kernel kills a process and its calls end.",
        )
    else:
        yield ok(f"{memory} MB of memory are available.")
    disk = shutil.disk_usage(settings.BASE_DIR).free // 10**6
    if disk < _LEAST_DISK_MB:
        yield warning(
            f"{disk} MB are free on the disk with {settings.BASE_DIR}.",
            "Remove old releases and logs. If PostgreSQL uses the same disk, it stops when the "
            "disk is full.",
        )
    else:
        yield ok(f"{disk} MB are free on the disk with {settings.BASE_DIR}.")


def _available_memory_mb() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(kilobytes) // 1000 for kilobytes in values), None)


SPACE = Check("space", "Memory and disk", "Little memory or disk space.", _space)
