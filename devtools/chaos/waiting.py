"""Waiting until something is so, for a time that is bounded."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise

_LOOK_EVERY_S = 0.1


def longest_gap(times: Iterable[float], since: float, until: float) -> float:
    """Return for how long nothing happened at most, in a stretch of time."""
    marks = [since, *(at for at in times if since < at < until), until]
    return max(after - before for before, after in pairwise(marks))


async def until(is_so: Callable[[], object | Awaitable[object]], *, within: float) -> bool:
    """Look again and again until it is so; return whether it came to that."""
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
    """Return how long that took, from a moment of ``time.monotonic()`` or from now; None: never."""
    began = time.monotonic() if since is None else since
    return time.monotonic() - began if await until(is_so, within=within) else None
