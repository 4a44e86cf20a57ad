"""The calls that this process holds: said to be alive, and asked whether they are to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from django.db.models import Q
from django.utils import timezone

from telephony.db import in_database
from telephony.models import Call

if TYPE_CHECKING:
    from telephony.voice.runner import CallRunner

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
LOOKS_PER_HEARTBEAT = 15

# All calls of this process, whichever port they came in through.
_held: dict[str, CallRunner] = {}


def auth_token_of(call_id: str) -> str:
    """Return the Twilio auth token of a call that this process holds; "" of all others."""
    runner = _held.get(call_id)
    return runner.auth_token if runner else ""


class LiveCalls:
    def __init__(self) -> None:
        self._runners: dict[str, CallRunner] = {}
        self._watching: asyncio.Task[None] | None = None
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __len__(self) -> int:
        return len(self._runners)

    def add(self, call_id: str, runner: CallRunner) -> None:
        self._runners[call_id] = _held[call_id] = runner
        self._is_empty.clear()
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    def remove(self, call_id: str) -> None:
        self._runners.pop(call_id, None)
        _held.pop(call_id, None)
        if not self._runners:
            self._is_empty.set()

    async def wait_until_none(self) -> None:
        await self._is_empty.wait()

    async def _watch(self) -> None:
        """Look after the calls until there is none; a failure is another chance a second later."""
        looks = 0
        while self._runners:
            await asyncio.sleep(LOOK_EVERY_S)
            looks += 1
            call_ids = list(self._runners)
            try:
                over = await in_database(
                    _look_after, call_ids, heartbeat=looks % LOOKS_PER_HEARTBEAT == 0
                )
            except Exception as error:
                log.warning("calls_not_looked_after", error=type(error).__name__)
                continue
            for call_id in over:
                if runner := self._runners.get(call_id):
                    runner.request_hangup()
        self._watching = None


def _look_after(call_ids: list[str], *, heartbeat: bool) -> list[str]:
    """Say that the calls are alive; return which of them are to end.

    Those are the ones that somebody wants hung up, and those whose record has ended: a call lasts
    no longer than what it is charged for.
    """
    calls = Call.objects.filter(pk__in=call_ids)
    if heartbeat:
        calls.live().update(last_seen_at=timezone.now())
    is_over = Q(hangup_requested_at__isnull=False) | Q(ended_at__isnull=False)
    return list(calls.filter(is_over).values_list("pk", flat=True))
