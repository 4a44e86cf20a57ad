"""Records how a call ends in this engine: its end, or that it goes on elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from core.outages import is_outage
from telephony.db import in_background
from telephony.engine.codes import EndedReason, OnErrorCode
from telephony.models import Call
from telephony.outcomes import Outcome
from telephony.services import call_end, call_record, call_resume
from telephony.voice.recorder import Entries
from telephony.voice.storing import stored_in_background

log = structlog.get_logger(__name__)

# The end of a call is retried while the database is down: only this process knows its outcome.
LONGEST_PAUSE_S = 5.0
# Any other repeated failure is a bug. The sweep for calls that no engine holds ends the call.
END_TRIES = 8


@dataclass(frozen=True, slots=True)
class End:
    """The end of a call. ``outcome`` makes the call's outcome; ``entries`` are still to write."""

    call: Call
    reason: EndedReason
    ended_at: datetime
    outcome: Callable[[], Outcome]
    errors: list[tuple[OnErrorCode, str]]
    entries: Entries
    engine_id: str


async def record_rest(call: Call, entries: Entries) -> None:
    """Write what is left of the timeline of a call that goes on elsewhere."""
    await stored_in_background(
        "call_not_recorded",
        call_record,
        call.id,
        call.account_id,
        entries.events,
        failed=entries.failed,
    )


async def record_end(end: End) -> None:
    """End the call's record; retry while the database is down."""
    attempt = 0
    while attempt < END_TRIES:
        try:
            await in_background(end_call, end)
            return
        except Exception as error:
            log.error("call_end_not_recorded", error=type(error).__name__, attempt=attempt)
            attempt += not is_outage(error)
            await asyncio.sleep(min(2**attempt, LONGEST_PAUSE_S))


def end_call(end: End) -> None:
    """Record the end, even of a call that was ended as lost meanwhile.

    The watch over all calls may resume the call at this very moment. Then it must be ended again.
    """
    if not _is_ended_now(end):
        call_resume(call_id=end.call.id, held_by=end.engine_id)
        _is_ended_now(end)


def _is_ended_now(end: End) -> bool:
    """End the record; return False if it has ended already."""
    return call_end(
        call_id=end.call.id,
        status=Call.Status.COMPLETED,
        reason=end.reason,
        ended_at=end.ended_at,
        outcome=_come_to(end),
        errors=end.errors,
        events=end.entries.events,
        failed=end.entries.failed,
        held_by=end.engine_id,
    )


def _come_to(end: End) -> Outcome | None:
    """Return the conversation's outcome, or None after a bug: then the last recorded outcome
    counts.
    """
    try:
        return end.outcome()
    except Exception as error:
        log.error("call_outcome_unknown", error=type(error).__name__)
        return None
