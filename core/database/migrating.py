"""What ``manage.py migrate`` adds to Django's: one process at a time, and patience with locks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from time import monotonic, sleep
from typing import Any

import psycopg
from django.db import OperationalError
from psycopg import errors

# The same for every release.
_LOCK = 7_305_140_926_711_558_337
_LOOK_EVERY_S = 0.5
# Between attempts, the queries that have waited behind the migration run.
_PAUSES_S = (1.0, 2.0, 5.0)
_LATER_PAUSE_S = 10.0
_APPLICATION = "switchhook-migrate-lock"
# Whatever has been in a transaction for longer than a migration waits can be what it waited for.
# The queries that have waited behind it are nearly as old, and active.
_LONG_TRANSACTIONS = """
    SELECT pid, coalesce(nullif(application_name, ''), backend_type),
        coalesce(state, 'running'), round(extract(epoch FROM clock_timestamp() - xact_start))
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> %s
        AND xact_start < clock_timestamp()
            - make_interval(secs => CASE WHEN state LIKE 'idle in%%' THEN 2 ELSE 3 END)
    ORDER BY xact_start LIMIT 5
"""


@contextmanager
def alone(connection: Any, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Run the block while no other process migrates this database; wait for one that does.

    The lock belongs to a transaction on a connection of its own, which works through a PgBouncer
    too, and ends with this process, however that ends. Building an index concurrently waits for
    every statement that runs, so whoever waits for the lock asks for it in short ones.

    :param waiting: called once if another process has the lock.
    """
    connection.ensure_connection()  # which waits for a server that restarts
    parameters = connection.get_connection_params() | {"application_name": _APPLICATION}
    with psycopg.connect(**parameters) as holder:
        if not _takes_lock(holder):
            waiting()
            while not _takes_lock(holder):
                sleep(_LOOK_EVERY_S)
        holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield


def _takes_lock(holder: psycopg.Connection[Any]) -> bool:
    row = holder.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK]).fetchone()
    if row and row[0]:
        return True
    holder.rollback()
    return False


def patiently(
    migrate: Callable[[], None], *, seconds: float, again: Callable[[float], None]
) -> None:
    """Migrate; if a lock is not to be had, try again for so many seconds.

    A migration that failed so has changed nothing, or can be run again. Raises the last
    :class:`OperationalError`.

    :param again: called before each pause, with its seconds.
    """
    until = monotonic() + seconds
    for pause in chain(_PAUSES_S, repeat(_LATER_PAUSE_S)):
        try:
            migrate()
            return
        except OperationalError as error:
            if not is_about_locks(error) or monotonic() + pause > until:
                raise
        again(pause)
        sleep(pause)


def is_about_locks(error: OperationalError) -> bool:
    return isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected)


def long_transactions(connection: Any) -> list[str]:
    """Describe the transactions that can hold the lock, the oldest first: without their queries."""
    with connection.cursor() as cursor:
        cursor.execute(_LONG_TRANSACTIONS, [_APPLICATION])
        return [
            f"process {pid} of PostgreSQL ({name}, {state}), in a transaction for {seconds} s"
            for pid, name, state, seconds in cursor.fetchall()
        ]
