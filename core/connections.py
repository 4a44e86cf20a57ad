"""Database connections: they are few, not to be held by whoever waits, and not waited for forever.

How long a process waits for the database is its ``Patience``. A command or a worker's job may take
the time that it needs: a migration, a clean-up. Whoever serves requests says ``serve_requests()``,
and then no request waits long for a database that is away or hangs. Some have less time still, and
say so with ``database_within``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from typing import ParamSpec, TypeVar

from django.db import connection, connections

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the database: seconds, and a moment of ``time.monotonic()``."""

    connection: float
    answer: float
    until: float = inf

    @property
    def left(self) -> float:
        """Seconds until the end; none are left if it is not above 0."""
        return self.until - monotonic()


# A command waits a little longer for its connection than a restart of PostgreSQL takes.
_COMMAND = Patience(connection=5, answer=inf)
# So long an answer may take from a server that works: the pool finds out whether it hangs
# (``core.database``). No page takes a tenth of this with a million calls.
_REQUEST = Patience(connection=2, answer=5)

_of_process = _COMMAND
_narrowed: ContextVar[Patience | None] = ContextVar("patience", default=None)


def serve_requests() -> None:
    """From now on this process gives up soon, unless ``database_within`` says sooner."""
    global _of_process
    _of_process = _REQUEST


def patience() -> Patience:
    return _narrowed.get() or _of_process


@contextmanager
def database_within(seconds: float) -> Iterator[None]:
    """Let all waits for the database inside end within so many seconds from now, in sum."""
    outer = patience()
    until = min(outer.until, monotonic() + seconds)
    token = _narrowed.set(replace(outer, until=until))
    try:
        yield
    finally:
        _narrowed.reset(token)


def give_connection_back() -> None:
    """Return this thread's connection to the pool; the next query takes one again.

    Call it before something slow that makes no queries. An open transaction keeps its connection.
    """
    if not connection.in_atomic_block:
        connection.close()


def run_and_let_go(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that makes queries in its own thread, then close the thread's connection."""
    try:
        return function(*args, **kwargs)
    finally:
        connections.close_all()
