"""Where a running ``bin/dev`` or ``bin/demo`` is, so that ``manage.py`` need not be told.

Each writes its addresses to a file in ``.local/running`` and holds a lock on it. The lock ends with
the process, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: The environment variables that say where it is.
ADDRESSES = ("PORT", "MEDIA_PORT", "SANDBOX_PORT", "PUBLIC_URL", "ENGINE_URL")


def folder_of(local: Path) -> Path:
    return local / "running"


def addresses_of(settings: Any) -> dict[str, str]:
    """Return the addresses as values of ``ADDRESSES``."""
    return {name: str(getattr(settings, name)) for name in ADDRESSES}


@contextmanager
def announced(local: Path, addresses: Mapping[str, str]) -> Iterator[None]:
    """Let ``manage.py`` of this checkout find these addresses until the end of the block."""
    folder_of(local).mkdir(parents=True, exist_ok=True)
    path = folder_of(local) / f"{os.getpid()}.json"
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(addresses, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def adopt_addresses(local: Path, environment: MutableMapping[str, str]) -> None:
    """Set the addresses of what was started last, unless the environment has any already."""
    if any(name in environment for name in ADDRESSES):
        return
    for path in sorted(folder_of(local).glob("*.json"), key=_modified, reverse=True):
        if addresses := _read(path):
            environment.update(addresses)
            return


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> dict[str, str]:
    """Return the addresses in the file; nothing if its process has ended."""
    with suppress(OSError), path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(ValueError):  # it is being written
                return dict(json.load(file))
    return {}
