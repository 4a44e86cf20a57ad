"""The heartbeat of an engine, and the sweep that ends calls of engines whose heartbeat stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from core.connections import database_within
from telephony.db import in_database
from telephony.engines import are_others_ready, calls_sweep
from telephony.heartbeat import Heartbeat
from telephony.models import Process
from telephony.processes import Identity, process_beat
from telephony.voice.drain_state import drain_state

log = structlog.get_logger(__name__)

BEAT_S = 2.0
SWEEP_S = 1.0
# Ending all calls of one engine may take this long.
_SWEEP_WITHIN_S = 60.0

# A worker keeps sweeping for this long after the last request. A cron job requests it every minute.
_KEEP_SWEEPING_S = 150.0


class EngineHeartbeat(Heartbeat):
    """The heartbeat of an engine, which also ends the calls of dead ones.

    ``count_calls`` returns how many calls it holds.
    """

    def __init__(self) -> None:
        super().__init__(Identity(Process.Kind.ENGINE), every=BEAT_S)
        self.count_calls: Callable[[], int] = lambda: 0

    def _works(self) -> list[Coroutine[Any, Any, None]]:
        return [*super()._works(), sweep_on()]

    async def _write(self) -> None:
        is_draining, calls = self.is_draining, self.count_calls()
        await self._do(partial(process_beat, self.me, is_draining=is_draining, calls=calls))
        if self.is_draining:
            drain_state.has_others = await self._do(partial(are_others_ready, self.me.id))


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
        # A fresh context: its log lines are not about the job that asks.
        _sweepers[loop] = loop.create_task(_sweep_while_asked(loop), context=Context())


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
