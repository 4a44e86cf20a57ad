"""Lists are read from the replica, if there is one and it has everything that the primary had.

A list lags behind nothing that its reader has seen or done: it is read from the replica only once
that has replayed what the primary had written when the request came. Usually that takes some
milliseconds. If it takes longer, or the replica is down, the primary is read instead, and for some
seconds nobody asks the replica.

Rows from the replica are for reading: Django would write a changed one back to it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

import structlog
from django.db import DEFAULT_DB_ALIAS, connection, connections

from core.connections import database_within
from core.outages import cause_of, is_outage

log = structlog.get_logger(__name__)

T = TypeVar("T")

REPLICA = "replica"
_CAUGHT_UP_WITHIN_S = 0.1
_LOOK_EVERY_S = 0.005
# Including a new connection to it.
_ASKED_WITHIN_S = 1.0
_LEFT_ALONE_S = 5.0

_left_alone_until = 0.0


def listed(read: Callable[[str], T]) -> T:
    """Return what ``read`` returns, which reads the rows of a list.

    :param read: gets the name of the database to read from, for ``using``. If the replica fails, it
        is called again.
    """
    if REPLICA not in connections.settings or monotonic() < _left_alone_until:
        return read(DEFAULT_DB_ALIAS)
    written = _written()
    try:
        if _has(written):
            return read(REPLICA)
        _leave_alone("it lags")
    except Exception as error:
        if not is_outage(error):
            raise
        _leave_alone(cause_of(error))
    finally:
        connections[REPLICA].close()
    return read(DEFAULT_DB_ALIAS)


def _written() -> str:
    """Return how far the primary has written its log: everything committed is before that."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_lsn()::text")
        return str(cursor.fetchone()[0])


def _has(written: str) -> bool:
    """Return True if the replica has replayed the log up to there, or soon has.

    A server that replays nothing is no replica of ours: it may have become a primary.
    """
    until = monotonic() + _CAUGHT_UP_WITHIN_S
    with database_within(_ASKED_WITHIN_S), connections[REPLICA].cursor() as cursor:
        while True:
            cursor.execute(
                "SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= %s::pg_lsn", [written]
            )
            if cursor.fetchone()[0]:
                return True
            if monotonic() > until:
                return False
            sleep(_LOOK_EVERY_S)


def _leave_alone(why: str) -> None:
    global _left_alone_until
    _left_alone_until = monotonic() + _LEFT_ALONE_S
    log.warning("replica_left_alone", why=why, seconds=_LEFT_ALONE_S)
