"""Bounded waits for conditions."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise

_LOOK_EVERY_S = 0.1


def longest_gap(times: Iterable[float], since: float, until: float) -> float:
    """Return the longest time within a period in which nothing happened."""
    marks = [since, *(at for at in times if since < at < until), until]
    return max(after - before for before, after in pairwise(marks))


async def until(is_so: Callable[[], object | Awaitable[object]], *, within: float) -> bool:
    """Poll until a condition is true; return False on timeout."""
    deadline = time.monotonic() + within
    while True:
        answer = is_so()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_EVERY_S)


async def seconds_until(
    is_so: Callable[[], object | Awaitable[object]], *, within: float, since: float | None = None
) -> float | None:
    """Return how long that took, since ``time.monotonic()`` was ``since``; None: timeout."""
    began = time.monotonic() if since is None else since
    return time.monotonic() - began if await until(is_so, within=within) else None
