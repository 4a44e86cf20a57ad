"""The heartbeat of a process: a row that it writes regularly, for as long as it is up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog
from django.db import connection, connections

from core.connections import database_within, run_and_let_go
from telephony.models import Process
from telephony.processes import Identity, process_beat, process_leave

log = structlog.get_logger(__name__)

R = TypeVar("R")

BEAT_S = 5.0
# A query that takes longer has failed. Without a limit, one hanging heartbeat would be the last.
_BEAT_WITHIN_S = 3.0


class Heartbeat:
    """The heartbeat of an event loop: a loop that hangs writes none.

    It is written from a thread and over a connection that nothing else waits for. The pool can be
    exhausted, and its threads can wait for a locked row. Neither means that the process is dead.
    """

    def __init__(self, me: Identity, *, every: float = BEAT_S) -> None:
        self.me = me
        self.is_draining = False
        self._every = every
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="heartbeat", initializer=_connect_beside_the_pool
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(work) for work in self._works()]

    async def drain(self) -> None:
        """Report that the process is draining, now and in every later heartbeat."""
        self.is_draining = True
        if self._tasks:
            await self._beat()

    async def stop(self) -> None:
        """Report that the process exits, and stop the heartbeat."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        with suppress(Exception):  # the database is down: the others notice our silence
            await self._do(partial(process_leave, self.me.id))
        await self._do(connections.close_all)
        self._thread.shutdown()

    def _works(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs from the start to the end."""
        return [self._beat_on()]

    async def _beat_on(self) -> None:
        while True:
            await self._beat()
            await asyncio.sleep(self._every)

    async def _beat(self) -> None:
        try:
            await self._write()
        except Exception as error:
            log.warning("heartbeat_failed", error=type(error).__name__)

    async def _write(self) -> None:
        """Write a heartbeat; raise if that failed."""
        await self._do(partial(process_beat, self.me, is_draining=self.is_draining))

    async def _do(self, function: Callable[[], R]) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _or_close, function)


class ThreadsHeartbeat:
    """The heartbeat of a process without an event loop. It takes its connections from the pool."""

    def __init__(self, kind: Process.Kind) -> None:
        self._me = Identity(kind)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Report that the process exits."""
        self._stopped.set()
        self._thread.join(_BEAT_WITHIN_S)
        with suppress(Exception):  # the database is down: the others notice our silence
            _within_time(partial(process_leave, self._me.id))

    def _beat_on(self) -> None:
        while not self._stopped.is_set():
            try:
                _within_time(partial(process_beat, self._me))
            except Exception as error:
                log.warning("heartbeat_failed", error=type(error).__name__)
            self._stopped.wait(BEAT_S)


def _within_time(function: Callable[[], object]) -> None:
    with database_within(_BEAT_WITHIN_S):
        run_and_let_go(function)


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
