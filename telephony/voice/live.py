"""The calls that this process holds: it reports them as held, and looks for requests to hang up."""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from django.db.models import Q
from django.db.models.functions import Now

from core.sweeps import each_alone
from telephony.db import in_database
from telephony.engine.codes import EndedReason
from telephony.models import Call
from telephony.services import call_resume
from telephony.voice.departures import Departures

if TYPE_CHECKING:
    from telephony.voice.runner import CallRunner

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
# A call is reported as held when it starts, at this interval, and as soon as possible after a
# failure.
HELD_EVERY_S = 15.0

# All calls of this process, whichever port they came in through.
_held: dict[str, CallRunner] = {}


def auth_token_of(call_id: str) -> str:
    """Return the Twilio auth token of a call that this process holds, or "" for any other call."""
    runner = _held.get(call_id)
    return runner.auth_token if runner else ""


def is_held_here(call_id: str) -> bool:
    """Return True if this process holds the call, or is about to record its end."""
    runner = _held.get(call_id)
    return runner is not None and not runner.has_left


def is_ending_here(call_id: str) -> bool:
    """Return True if this process holds the call, and its caller's socket has closed.

    Then it records the call's end, and a sweep does if it dies first.
    """
    runner = _held.get(call_id)
    return runner is not None and runner.is_closed


async def give_out(call_id: str) -> None:
    """Let another stream go on with a call whose stream is over, if this process holds it."""
    if runner := _held.get(call_id):
        await runner.giving_out.begin_if_silent()


@dataclass(frozen=True, slots=True)
class Look:
    """The ids that a look at the calls' records found."""

    to_hang_up: list[str]
    taken_for_lost: list[str]
    moved: list[str]


class LiveCalls:
    def __init__(self, engine_id: str) -> None:
        self.engine_id = engine_id
        self._runners: dict[str, CallRunner] = {}
        self._watching: asyncio.Task[None] | None = None
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._said_at: dict[str, float] = {}  # when each call was last reported as held

    def __len__(self) -> int:
        return len(self._runners)

    @property
    def ids(self) -> set[str]:
        return set(self._runners)

    def add(self, call_id: str, runner: CallRunner) -> None:
        if earlier := _held.get(call_id):  # its stream broke, which it has not noticed
            earlier.leave()
        self._runners[call_id] = _held[call_id] = runner
        self._is_empty.clear()
        if self._watching is None:
            # A fresh context: its log lines are not about this call.
            self._watching = asyncio.create_task(self._watch(), context=Context())

    def remove(self, call_id: str, runner: CallRunner) -> None:
        """Forget the runner, unless the call has come back to this process in another stream."""
        for held in (self._runners, _held):
            if held.get(call_id) is runner:
                del held[call_id]
        if call_id not in self._runners:
            self._said_at.pop(call_id, None)
        if not self._runners:
            self._is_empty.set()

    def move(self, departures: Departures) -> None:
        """Move the calls to another engine for which this is the moment: call this repeatedly."""
        now = asyncio.get_running_loop().time()
        departures.expect(self._runners, now)
        ready = [
            call_id
            for call_id, runner in self._runners.items()
            if runner.giving_out.may_begin(is_late=departures.is_late(call_id, now))
        ]
        for call_id in departures.next(ready):
            giving_out = self._runners[call_id].giving_out
            giving_out.begin("engine_stopping", is_late=departures.is_late(call_id, now))

    async def wait_until_none(self) -> None:
        await self._is_empty.wait()

    async def _watch(self) -> None:
        """Watch the calls until there are none; retry a second after a failure."""
        while self._runners:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._look()
            except Exception as error:
                self._said_at.clear()  # our last report may be too old: report all calls
                log.warning("calls_watch_failed", error=type(error).__name__)
        self._watching = None

    async def _look(self) -> None:
        now, call_ids = asyncio.get_running_loop().time(), list(self._runners)
        to_say = [each for each in call_ids if self._said_at.get(each, 0.0) <= now - HELD_EVERY_S]
        found = await in_database(look_after, call_ids, to_say, self.engine_id)
        self._said_at.update(dict.fromkeys(self._runners.keys() & set(to_say), now))
        for call_id in found.to_hang_up:
            if runner := self._runners.get(call_id):
                runner.request_hangup()
        for call_id in found.moved:
            if runner := self._runners.get(call_id):
                runner.leave()
        if lost := [call_id for call_id in found.taken_for_lost if call_id in self._runners]:
            await in_database(_take_back, lost, self.engine_id)


def look_after(call_ids: list[str], to_say: list[str], engine_id: str) -> Look:
    """Report the calls as held; return which to hang up, were ended as lost, or have moved.

    A call whose record has ended is hung up, so that it does not outlast what it is charged for.
    The exception is a call that was ended because this engine seemed to be lost.
    """
    held = Q(engine_id__in=["", engine_id])
    Call.objects.live().filter(held, pk__in=to_say).update(last_seen_at=Now())
    calls = Call.objects.filter(pk__in=call_ids)
    lost = Q(ended_at__isnull=False, ended_reason=EndedReason.ENGINE_LOST)
    is_over = Q(hangup_requested_at__isnull=False) | Q(ended_at__isnull=False)
    return Look(
        to_hang_up=list(calls.filter(held, is_over).exclude(lost).values_list("pk", flat=True)),
        taken_for_lost=list(calls.filter(held, lost).values_list("pk", flat=True)),
        moved=list(calls.exclude(held).values_list("pk", flat=True)),
    )


def _take_back(call_ids: list[str], engine_id: str) -> None:
    """Resume calls that were ended as lost. The next look retries those that fail."""
    each_alone(
        call_ids,
        lambda call_id: call_resume(call_id=call_id, held_by=engine_id),
        what="return of a call",
        logged_as="call_id",
        back_off=lambda _: None,
    )
