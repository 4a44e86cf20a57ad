"""Keeps in the database what a running call has come to, off the audio path.

Lines of the timeline and finished turns are collected for a moment and written together: the
conversation so far goes with each, so that a call whose engine dies loses its last turn at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from telephony.db import in_database
from telephony.outcomes import Outcome
from telephony.services import Timed, call_record

log = structlog.get_logger(__name__)

COLLECT_S = 0.5
# What a full database, or one that is away, may leave waiting; beyond that the oldest go.
MOST_EVENTS = 1000


class Recorder:
    def __init__(
        self, call_id: str, account_id: str, outcome: Callable[[], Callable[[], Outcome]]
    ) -> None:
        self._call_id = call_id
        self._account_id = account_id
        self._outcome = outcome
        self._events: list[Timed] = []
        self._has_changed = False
        self._writing: asyncio.Task[None] | None = None
        self._is_urgent = asyncio.Event()

    def add(self, event: Timed) -> None:
        """Write a line of the timeline, soon."""
        self._events.append(event)
        self.changed()

    def changed(self) -> None:
        """The conversation is another than it was: write it down, soon."""
        self._has_changed = True
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def close(self) -> list[Timed]:
        """Stop; return the lines that are not written yet, for whoever ends the call."""
        self._is_urgent.set()
        if self._writing is not None:
            await self._writing
        events, self._events = self._events, []
        return events

    async def _write(self) -> None:
        while self._has_changed and not self._is_urgent.is_set():
            await self._moment()
            if self._is_urgent.is_set():
                break
            events, self._events, self._has_changed = self._events, [], False
            try:
                await in_database(record, self._call_id, self._account_id, events, self._outcome())
            except Exception as error:
                log.warning("call_not_recorded", call_id=self._call_id, error=type(error).__name__)
                self._events = (events + self._events)[-MOST_EVENTS:]
                self._has_changed = True
        self._writing = None

    async def _moment(self) -> None:
        try:
            async with asyncio.timeout(COLLECT_S):
                await self._is_urgent.wait()
        except TimeoutError:
            pass


def record(
    call_id: str, account_id: str, events: list[Timed], outcome: Callable[[], Outcome]
) -> None:
    call_record(call_id, account_id, events, outcome())
