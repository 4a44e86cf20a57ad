"""Limits on waiting for the database, and on holding its connections, which are few.

A process waits for the database as long as its ``Patience`` allows. Commands and jobs of a worker
may take the time they need, as for a migration or a clean-up. A process that serves requests calls
``serve_requests()``, so that no request waits long for a database that is unavailable or hangs.
Code that has even less time uses ``database_within``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from typing import ParamSpec, TypeVar

import structlog
from django.db import connection, connections

from core.outages import cause_of, was_cut

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a connection and for a response, and a deadline on ``monotonic()``."""

    connection: float
    answer: float
    until: float = inf

    @property
    def left(self) -> float:
        """Seconds until the deadline; 0 or less once it has passed."""
        return self.until - monotonic()


# A command waits for a connection slightly longer than PostgreSQL takes to restart.
_COMMAND = Patience(connection=5, answer=inf)
# The limit on a response is for a server that works; the pool detects one that hangs
# (``core.database``). With a million calls, no page takes a tenth of it.
_REQUEST = Patience(connection=2, answer=5)

_of_process = _COMMAND
_narrowed: ContextVar[Patience | None] = ContextVar("patience", default=None)


def serve_requests() -> None:
    """Set this process's ``patience()`` to that of requests."""
    global _of_process
    _of_process = _REQUEST


def patience() -> Patience:
    """Return the limits of the innermost ``database_within``, or else of the process."""
    return _narrowed.get() or _of_process


@contextmanager
def database_within(seconds: float) -> Iterator[None]:
    """Limit all waits for the database in this block to this many seconds in total, from now."""
    outer = patience()
    until = min(outer.until, monotonic() + seconds)
    token = _narrowed.set(replace(outer, until=until))
    try:
        yield
    finally:
        _narrowed.reset(token)


def give_connection_back() -> None:
    """Return this thread's connection to the pool; the next query takes another.

    Call it before slow work that makes no queries. An open transaction keeps its connection.
    """
    if not connection.in_atomic_block:
        connection.close()


def run_and_let_go(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that makes queries, then close this thread's connections."""
    try:
        return function(*args, **kwargs)
    finally:
        connections.close_all()


def run_again_if_cut(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do as ``run_and_let_go``, once more if the connection broke and ``patience()`` allows.

    A PgBouncer or a server that restarts breaks connections in the middle of a statement. Nobody
    knows then whether a transaction was committed, so the function's transactions must be right
    even if they were: see ``core.outages.was_cut``. What it does on commit may not have been done.
    """
    try:
        return run_and_let_go(function, *args, **kwargs)
    except Exception as error:
        if not was_cut(error) or patience().left <= 0:
            raise
        log.warning("database_connection_cut", error=cause_of(error))
    return run_and_let_go(function, *args, **kwargs)
