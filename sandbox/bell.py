"""Waiting for a change without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Bell:
    """Wakes any number of waiting tasks whenever something has changed."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    async def until(self, happened: Callable[[], T], timeout: float) -> T:  # noqa: ASYNC109
        """Return the first true value of ``happened``, which is called at each change.

        Raises TimeoutError after ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while not (value := happened()):
                await self._rung.wait()
        return value
