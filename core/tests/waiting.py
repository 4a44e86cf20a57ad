"""Polling for changes in another process, a thread or the database."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from django.db import connection

# ``pg_locks`` and not ``pg_stat_activity``: in a transaction, the latter stays as it was at first,
# without the connections that others open later.
_WAIT_FOR_THIS = (
    "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
)


async def until(is_so: Callable[[], object | Awaitable[object]], *, within: float = 30) -> None:
    """Poll until ``is_so()`` is true; raise :class:`TimeoutError` after ``within`` seconds."""
    async with asyncio.timeout(within):
        while not await _awaited(is_so()):  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)


async def _awaited(result: object | Awaitable[object]) -> object:
    return await result if inspect.isawaitable(result) else result


def until_it_waits(other: Future[Any], *, within: float = 10) -> None:
    """Return once another connection waits for a lock of this one, which ``other`` caused.

    Raises :class:`AssertionError` if ``other`` ends instead, or after ``within`` seconds.
    """
    deadline = time.monotonic() + within
    with connection.cursor() as cursor:
        while cursor.rowcount < 1:
            assert not other.done(), "It did not wait."
            assert time.monotonic() < deadline, "Nobody waits."
            cursor.execute(_WAIT_FOR_THIS)
