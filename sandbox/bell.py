"""Waiting for something to happen, without asking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Bell:
    """Rings whenever something has changed; any number of tasks may listen."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    async def until(self, happened: Callable[[], T], timeout: float) -> T:  # noqa: ASYNC109
        """Return the first true value of ``happened``, which is asked at each ring.

        Raises TimeoutError after ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while not (value := happened()):
                await self._rung.wait()
        return value
