"""Access to the database from async code, without holding a connection during other waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import isinf
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import OperationalError

from core.connections import patience, run_and_let_go

P = ParamSpec("P")
R = TypeVar("R")

# Dedicated threads, as many as connections: queries queue here rather than for a connection, and
# never behind a slow DNS lookup in the event loop's own threads. What callers wait for has most of
# them to itself: when many calls end at once, one that begins does not queue behind them.
_CONNECTIONS: int = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
_IN_BACKGROUND = max(1, _CONNECTIONS // 3)
_threads = ThreadPoolExecutor(max(1, _CONNECTIONS - _IN_BACKGROUND), thread_name_prefix="database")
_background_threads = ThreadPoolExecutor(_IN_BACKGROUND, thread_name_prefix="background")

# Extra time, so that the thread itself can report why it has no result.
_LAST_WORD_S = 0.5


_in_place_of: Mapping[Callable[..., Any], Callable[..., Any]] | None = None


def answer_without_database(in_place_of: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
    """Replace functions that query, and fail all others, so that no database is needed.

    For benchmarks of the code around the queries.
    """
    global _in_place_of
    _in_place_of = in_place_of


async def in_database(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that queries in a thread, and then return the thread's connection to the pool.

    The function runs to its end even when the caller is cancelled. It does not start if it waits
    for its thread longer than ``core.connections`` allows: :class:`OperationalError`. It cannot see
    uncommitted changes of another thread's transaction.
    """
    return await _run(_threads, function, *args, **kwargs)


async def in_background(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do as :func:`in_database`, for what no caller waits for."""
    return await _run(_background_threads, function, *args, **kwargs)


async def _run(
    threads: ThreadPoolExecutor, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    if _in_place_of is not None:
        return _in_place_of[function](*args, **kwargs)
    left = patience().left

    def work() -> R:
        if patience().left <= 0:
            raise OperationalError("No thread was free in time.")
        return function(*args, **kwargs)

    run = sync_to_async(run_and_let_go, thread_sensitive=False, executor=threads)
    try:
        async with asyncio.timeout(None if isinf(left) else left + _LAST_WORD_S):
            return await run(work)
    except TimeoutError:
        raise OperationalError("The database did not respond in time.") from None
