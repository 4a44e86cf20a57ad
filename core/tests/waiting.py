"""Polling for changes in another process, a thread or the database."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(is_so: Callable[[], object | Awaitable[object]], *, within: float = 30) -> None:
    """Poll until ``is_so()`` is true; raise :class:`TimeoutError` after ``within`` seconds."""
    async with asyncio.timeout(within):
        while not await _awaited(is_so()):  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)


async def _awaited(result: object | Awaitable[object]) -> object:
    return await result if inspect.isawaitable(result) else result
