"""The heartbeat of an engine, and the sweep that ends calls of engines whose heartbeat stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

import structlog
from django.db import connection, connections

from core.connections import database_within
from core.ids import new_id
from telephony.db import in_database
from telephony.engines import are_others_ready, calls_sweep, engine_beat, engine_leave
from telephony.voice.drain_state import drain_state

log = structlog.get_logger(__name__)

R = TypeVar("R")

BEAT_S = 2.0
SWEEP_S = 2.0
# A query that takes longer has failed. Without a limit, one hanging heartbeat would be the last.
_BEAT_WITHIN_S = 3.0
# Ending all calls of one engine may take this long.
_SWEEP_WITHIN_S = 60.0

# A worker keeps sweeping for this long after the last request. A cron job requests it every minute.
_KEEP_SWEEPING_S = 150.0


class Heartbeat:
    """Write an engine's heartbeat, from a thread and over a connection that nothing else waits for.

    The pool can be exhausted, and its threads can wait for a locked row. Neither means that the
    engine is dead.
    """

    def __init__(self) -> None:
        self.engine_id = new_id()
        self.is_draining = False
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="heartbeat", initializer=_connect_beside_the_pool
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._beat_on()), asyncio.create_task(sweep_on())]

    async def drain(self) -> None:
        """Report that the engine is draining, now and in every later heartbeat."""
        self.is_draining = True
        if self._tasks:
            await self._beat()

    async def stop(self) -> None:
        """Report that the engine has exited, and stop the heartbeat."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        with suppress(Exception):  # the database is down: the other engines notice our silence
            await self._do(partial(engine_leave, self.engine_id))
        await self._do(connections.close_all)
        self._thread.shutdown()

    async def _beat_on(self) -> None:
        while True:
            await self._beat()
            await asyncio.sleep(BEAT_S)

    async def _beat(self) -> None:
        try:
            await self._do(partial(engine_beat, self.engine_id, is_draining=self.is_draining))
            if self.is_draining:
                drain_state.has_others = await self._do(partial(are_others_ready, self.engine_id))
        except Exception as error:
            log.warning("heartbeat_failed", error=type(error).__name__)

    async def _do(self, function: Callable[[], R]) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _or_close, function)


def _or_close(function: Callable[[], R]) -> R:
    """Call the function; close the connection after any failure, so that it is not reused."""
    try:
        with database_within(_BEAT_WITHIN_S):
            return function()
    except Exception:
        connection.close()
        raise


def _connect_beside_the_pool() -> None:
    """Give this thread a connection outside the pool."""
    settings = connections.settings["default"]
    options = {name: value for name, value in settings["OPTIONS"].items() if name != "pool"}
    kind = type(connections["default"])
    connections["default"] = kind({**settings, "OPTIONS": options}, "default")


async def sweep_on() -> None:
    """End stale calls, repeatedly."""
    while True:
        await _sweep()
        await asyncio.sleep(SWEEP_S)


def keep_sweeping() -> None:
    """Sweep in this process's event loop too, until nobody has requested it for a while."""
    loop = asyncio.get_running_loop()
    _asked_at[loop] = loop.time()
    if loop not in _sweepers or _sweepers[loop].done():
        _sweepers[loop] = loop.create_task(_sweep_while_asked(loop))


_asked_at: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()
_sweepers: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()


async def _sweep_while_asked(loop: asyncio.AbstractEventLoop) -> None:
    while loop.time() < _asked_at[loop] + _KEEP_SWEEPING_S:
        await _sweep()
        await asyncio.sleep(SWEEP_S)


async def _sweep() -> None:
    try:
        with database_within(_SWEEP_WITHIN_S):
            if count := await in_database(calls_sweep):
                log.warning("stale_calls_ended", count=count)
    except Exception as error:
        log.warning("sweep_failed", error=type(error).__name__)
