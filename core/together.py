"""Batches requests that arrive at about the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """A callable that takes one item and returns its result, and batches items under load.

    Items that arrive while a batch is running form the next batch. So no item waits for a batch to
    fill, and batches grow with the load. ``do`` returns one result for each item. If a batch fails,
    each of its items is retried alone, so that one bad item fails alone.
    """

    def __init__(self, do: Callable[[list[T]], Awaitable[Sequence[R]]], *, at_most: int) -> None:
        self._do = do
        self._at_most = at_most
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[T, R]] = (
            WeakKeyDictionary()
        )

    async def __call__(self, item: T) -> R:
        loop = asyncio.get_running_loop()
        if loop not in self._queues:
            self._queues[loop] = _Queue()
        queue = self._queues[loop]
        result: asyncio.Future[R] = loop.create_future()
        queue.waiting.append((item, result))
        if queue.work is None:
            # A fresh context: log lines of a batch are not about its first item.
            queue.work = asyncio.create_task(self._work(queue), context=Context())
        return await result

    async def _work(self, queue: _Queue[T, R]) -> None:
        try:
            while queue.waiting:
                batch = queue.waiting[: self._at_most]
                del queue.waiting[: self._at_most]
                if not await self._done(batch):
                    for one in batch:
                        await self._done([one])
        finally:
            queue.work = None

    async def _done(self, batch: list[tuple[T, asyncio.Future[R]]]) -> bool:
        """Run a batch; return False if it failed and has more than one item."""
        try:
            results = await self._do([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1:
                return False
            _, only = batch[0]
            if not only.done():
                only.set_exception(error)
            return True
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():  # otherwise, its caller was cancelled
                future.set_result(result)
        return True


class _Queue(Generic[T, R]):
    """The items that wait in one event loop, and the task that processes them."""

    def __init__(self) -> None:
        self.waiting: list[tuple[T, asyncio.Future[R]]] = []
        self.work: asyncio.Task[None] | None = None
