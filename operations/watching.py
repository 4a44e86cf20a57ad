"""The watch that each process keeps for incidents, in a thread of its own."""

from __future__ import annotations

import threading

import structlog

from core.connections import database_within, run_and_let_go
from operations.incidents import Scope, incidents_look
from operations.notices import send_due

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 10.0
# No look takes as long on a database that works.
_LOOK_WITHIN_S = 10.0


class Watcher:
    """Looks for incidents, and tells operators, until it is stopped.

    :param scopes: an engine leaves ``rest``, which takes some milliseconds, to the others.
    """

    def __init__(self, *scopes: Scope) -> None:
        self._scopes = scopes
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin no more looks. One that is running is not waited for."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            try:
                for scope in self._scopes:
                    with database_within(_LOOK_WITHIN_S):
                        run_and_let_go(incidents_look, scope=scope)
                run_and_let_go(send_due)
            except Exception as error:
                log.warning("watch_failed", error=type(error).__name__)
            self._stopped.wait(LOOK_EVERY_S)
