"""Static files as production serves them, collected once for each version of their sources."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from core.static_files import digest_of_sources
from devtools.migrated import manage
from devtools.processes import ROOT

_SETTINGS = {
    "PUBLIC_URL": "https://switchhook.example",
    "ENGINE_URL": "https://switchhook.example",
    "MEDIA_URL": "wss://switchhook.example/media",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "STRIPE_SECRET_KEY": f"sk_test_{'0' * 24}",
}


def collected_static_files(local: Path) -> Path:
    """Return a ``STATIC_ROOT`` below ``local``; collect the files unless that has been done."""
    folder = local / "static" / digest_of_sources()[:12]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
            root = Path(unfinished) / "root"
            _collect(root)
            with suppress(OSError):  # another run was first
                root.rename(folder)
    return folder


def _collect(root: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": secrets.token_urlsafe(50),
        "STATIC_ROOT": str(root),
        **_SETTINGS,
    }
    manage("collectstatic", environment=environment)


if __name__ == "__main__":
    sys.stdout.write(f"{collected_static_files(ROOT / '.local')}\n")
