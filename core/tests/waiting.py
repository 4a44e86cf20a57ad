"""Waiting for what nobody tells a test: it is in another process, a thread or the database."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(is_so: Callable[[], object | Awaitable[object]], *, within: float = 30) -> None:
    """Look again and again until it is so; raise :class:`TimeoutError` after so many seconds."""
    async with asyncio.timeout(within):
        while not await _answer(is_so()):  # noqa: ASYNC110 (nobody would set an event)
            await asyncio.sleep(0.01)


async def _answer(looked: object | Awaitable[object]) -> object:
    return await looked if inspect.isawaitable(looked) else looked
