"""Writes the timeline and transcript of a call in progress to the database, off the audio path.

Timeline entries and finished turns are collected for a moment and written together, each time with
the conversation so far. A call whose engine dies thus loses its last turn at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field

import structlog

from telephony.callbacks.attempts import Failure
from telephony.db import in_background
from telephony.outcomes import Outcome
from telephony.services import Timed, call_record

log = structlog.get_logger(__name__)

# A turn takes longer than this, and each write costs a commit.
COLLECT_S = 1.0
# How many entries may wait while the database is slow or down. Beyond that the oldest are dropped.
MOST_EVENTS = 1000
# Failed requests to the backend, for the whole call. The timeline has more of them.
MOST_FAILED = 20


@dataclass(slots=True)
class Entries:
    """What is not written yet: entries of the timeline, and failed requests to the backend."""

    events: list[Timed] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def before(self, later: Entries) -> Entries:
        return Entries((self.events + later.events)[-MOST_EVENTS:], self.failed + later.failed)


class Recorder:
    """``held_by`` is the engine of this process, which holds the call."""

    def __init__(
        self,
        call_id: str,
        account_id: str,
        outcome: Callable[[], Callable[[], Outcome]],
        held_by: str = "",
    ) -> None:
        self._call_id = call_id
        self._account_id = account_id
        self._outcome = outcome
        self._held_by = held_by
        self._context = copy_context()  # sockets and timers, which add entries, have others
        self._entries = Entries()
        self._failed = 0
        self._has_changed = False
        self._writing: asyncio.Task[None] | None = None
        self._is_urgent = asyncio.Event()

    def add(self, event: Timed) -> None:
        """Write an entry to the timeline, soon."""
        self._entries.events.append(event)
        self.changed()

    def add_failed(self, request: Failure) -> None:
        """Write how a request to the backend failed, soon, unless there are too many."""
        if self._failed < MOST_FAILED:
            self._failed += 1
            self._entries.failed.append(request)
            self.changed()

    def changed(self) -> None:
        """Write the changed conversation, soon."""
        self._has_changed = True
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), context=self._context.copy())

    async def close(self) -> Entries:
        """Stop; return the entries that are not written yet, for the code that ends the call."""
        self._is_urgent.set()
        if self._writing is not None:
            await self._writing
        return self._take()

    def _take(self) -> Entries:
        entries, self._entries = self._entries, Entries()
        return entries

    async def _write(self) -> None:
        while self._has_changed and not self._is_urgent.is_set():
            await self._moment()
            if self._is_urgent.is_set():
                break
            entries, self._has_changed = self._take(), False
            try:
                await in_background(
                    record,
                    self._call_id,
                    self._account_id,
                    entries,
                    self._outcome(),
                    self._held_by,
                )
            except Exception as error:
                log.warning("call_not_recorded", error=type(error).__name__)
                self._entries = entries.before(self._entries)
                self._has_changed = True
        self._writing = None

    async def _moment(self) -> None:
        try:
            async with asyncio.timeout(COLLECT_S):
                await self._is_urgent.wait()
        except TimeoutError:
            pass


def record(
    call_id: str,
    account_id: str,
    entries: Entries,
    outcome: Callable[[], Outcome],
    held_by: str,
) -> None:
    call_record(call_id, account_id, entries.events, outcome(), entries.failed, held_by=held_by)
