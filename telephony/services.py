"""The life of a call in the database: heard of, accepted, connected, ended. Each step is one
transaction, and each may be tried again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from config.api import iso
from config.sweeps import each_alone
from config.texts import cleaned_json, cleaned_text
from telephony.call_sids import is_test_sid
from telephony.callbacks import outbox, payloads
from telephony.callbacks.payloads import CallFacts
from telephony.engine.costs import twilio_cost
from telephony.engine.tool_runs import ToolRun
from telephony.models import Call, CallEvent, CallProgress, CallQuerySet
from telephony.outcomes import Outcome, cost_of, opened, sealed
from usage.models import UsageRecord
from usage.services import usage_record_create, whole_minutes

log = structlog.get_logger(__name__)

# The engine says every 15 s which calls it holds; one that was not named for a minute is lost.
LOST_AFTER = timedelta(seconds=60)

# Of a sweep. What it fails at is left alone for a while, so that it never holds up the rest.
SWEPT_AT_ONCE = 1000
LEFT_ALONE = timedelta(minutes=1)

Timed = tuple[datetime, str, dict[str, Any]]


@transaction.atomic
def call_accept(
    call: Call, *, metadata: Any = None, held_until: datetime | None = None, **detail: Any
) -> None:
    """The customer's backend takes the call: from now on it counts, however it ends.

    :param held_until: when it is over unless its audio has come.
    :param detail: for the timeline.
    """
    call.accepted_at = call.accepted_at or timezone.now()
    if metadata is not None:
        call.metadata = metadata
    if held_until is not None:
        call.held_until = held_until
    call.save(update_fields=["accepted_at", "metadata", "held_until"])
    call_note(call, "accepted", **detail)


@transaction.atomic
def call_connect(call: Call, *, now: datetime) -> bool:
    """The caller's audio is connected, so billing starts; False if the call has ended already."""
    connected = Call.objects.live().filter(pk=call.pk, answered_at=None)
    if not connected.update(status=Call.Status.IN_PROGRESS, answered_at=now, last_seen_at=now):
        return False
    call.refresh_from_db(fields=["status", "answered_at", "last_seen_at"])
    call_note(call, "connected", at=now)
    return True


def call_note(call: Call, kind: str, *, at: datetime | None = None, **detail: Any) -> None:
    """Add a line to the call's timeline."""
    _event(call.id, call.account_id, (at or timezone.now(), kind, detail)).save(force_insert=True)


@transaction.atomic
def call_record(
    call_id: str, account_id: str, events: Iterable[Timed], outcome: Outcome | None = None
) -> None:
    """Keep what a running call has come to so far: lines of the timeline, the conversation.

    The conversation comes from the engine that holds the call, so it is a sign of life as well.
    """
    CallEvent.objects.bulk_create(_event(call_id, account_id, event) for event in events)
    now = timezone.now()
    if outcome is not None and Call.objects.live().filter(pk=call_id).update(last_seen_at=now):
        CallProgress.objects.update_or_create(
            call_id=call_id,
            defaults={"account_id": account_id, "sealed": sealed(outcome), "updated_at": now},
        )


def _event(call_id: str, account_id: str, event: Timed) -> CallEvent:
    """Return a line of the timeline as PostgreSQL takes it, whoever wrote its texts."""
    at, kind, detail = event
    return CallEvent(
        account_id=account_id, call_id=call_id, at=at, kind=kind, detail=cleaned_json(detail)
    )


def call_report_error(call: Call, *, code: str, message: str) -> None:
    """Fire onError, in the caller's transaction or one of its own."""
    code, message = cleaned_text(code), cleaned_text(message)
    with transaction.atomic():
        call_note(call, "error", code=code, message=message)
        outbox.enqueue_error(call, code=code, message=message)


@transaction.atomic
def call_end(
    *,
    call_id: str,
    status: str,
    reason: str,
    ended_at: datetime | None = None,
    outcome: Outcome | None = None,
    errors: Sequence[tuple[str, str]] = (),
) -> bool:
    """End a call: its record, its usage, the totals, onCallEnd. False if it has ended already.

    Whoever learns of an end calls this, and the first one wins. Without an ``outcome``, what the
    engine kept on the way counts, as far as that can be read; the timeline says what is missing
    then, and the estimate of a cost that is unknown is 0. A call that nobody accepted leaves a
    record, and nothing else. ``errors`` are ``(code, message)`` for onError.
    """
    call = Call.objects.select_for_update().get(pk=call_id)
    if call.ended_at is not None:
        return False
    kept = CallProgress.objects.filter(call=call).first()
    outcome = outcome or (opened(kept) if kept else Outcome())
    if kept:
        kept.delete()
    _close(call, status=status, reason=reason, ended_at=ended_at or timezone.now())
    for code, message in errors:
        call_report_error(call, code=code, message=message)
    call_note(call, "ended", at=call.ended_at, reason=reason)
    if call.accepted_at is not None and call.call_sid:
        cost = cost_of(outcome)
        missing = outcome.missing | ({"cost"} if cost is None else set())
        if missing:
            call_note(call, "incomplete", at=call.ended_at, missing=", ".join(sorted(missing)))
        record = _record_usage(call, call.call_sid, cost or Decimal(0))
        outbox.enqueue_call_end(call, _call_end_body(call, record, outcome))
    return True


def calls_end_stale(now: datetime) -> int:
    """End the calls that their engine lost, and those that never got one; return how many."""
    live = Call.objects.live().to_be_swept(now)
    lost = live.filter(last_seen_at__lt=now - LOST_AFTER)
    unconnected = live.filter(last_seen_at=None, held_until__lt=now)
    return _sweep(lost, _end_lost) + _sweep(unconnected, _end_unconnected)


def _sweep(calls: CallQuerySet, end: Callable[[str], bool]) -> int:
    ids = list(calls.values_list("id", flat=True)[:SWEPT_AT_ONCE])
    return each_alone(ids, end, what="end of a call", back_off=call_leave_alone)


def call_leave_alone(call_id: str) -> None:
    """Keep sweeps from a call that one of them could not deal with, for a while."""
    Call.objects.filter(pk=call_id).update(swept_after=timezone.now() + LEFT_ALONE)


def _end_lost(call_id: str) -> bool:
    seen_at = Call.objects.values_list("last_seen_at", flat=True).get(pk=call_id)
    return call_end_lost(call_id=call_id, ended_at=seen_at or timezone.now())


def _end_unconnected(call_id: str) -> bool:
    return call_end(call_id=call_id, status=Call.Status.FAILED, reason="failed")


def call_end_lost(*, call_id: str, ended_at: datetime) -> bool:
    """End a connected call whose engine is gone."""
    return call_end(
        call_id=call_id,
        status=Call.Status.COMPLETED,
        reason="engine_lost",
        ended_at=ended_at,
        errors=[("engine_lost", "The process that held the call has stopped.")],
    )


def _close(call: Call, *, status: str, reason: str, ended_at: datetime) -> None:
    call.status, call.ended_reason = status, reason
    call.ended_at = max(ended_at, call.answered_at or call.created_at)
    if call.answered_at:
        seconds = (call.ended_at - call.answered_at).total_seconds()
        call.duration_seconds = math.ceil(seconds)
    call.save(update_fields=["status", "ended_reason", "ended_at", "duration_seconds"])


def _record_usage(call: Call, call_sid: str, openai_cost: Decimal) -> UsageRecord:
    return usage_record_create(
        account_id=call.account_id,
        call_sid=call_sid,
        direction=call.direction,
        caller_phone=call.caller_phone,
        called_number=call.called_number,
        duration_seconds=call.duration_seconds,
        twilio_cost=_twilio_cost(call, call_sid),
        openai_cost=openai_cost,
        ended_at=call.ended_at or timezone.now(),
    )


def _twilio_cost(call: Call, call_sid: str) -> Decimal:
    if is_test_sid(call_sid):
        return Decimal(0)
    inbound = call.direction == Call.Direction.INBOUND
    our_number = call.called_number if inbound else call.caller_phone
    return twilio_cost(call.direction, our_number, whole_minutes(call.duration_seconds))


def _call_end_body(call: Call, record: UsageRecord, outcome: Outcome) -> dict[str, Any]:
    return payloads.call_end(
        CallFacts.of(call),
        duration_seconds=call.duration_seconds,
        ended_reason=call.ended_reason,
        transcript=outcome.transcript,
        tool_calls=outcome.tool_calls,
        cost_breakdown=record.cost_breakdown,
        now=call.ended_at or timezone.now(),
    )


def transcript_line(role: str, text: str, at: datetime, *, interrupted: bool) -> dict[str, Any]:
    """Return a turn as onCallEnd has it, without what no text may hold."""
    line: dict[str, Any] = {"role": role, "text": cleaned_text(text), "timestamp": iso(at)}
    return line | {"interrupted": True} if interrupted else line


def tool_call_line(run: ToolRun, at: datetime) -> dict[str, Any]:
    """Return what a question to the backend came to, as onCallEnd has it."""
    return {
        "toolName": cleaned_text(run.name),
        "status": run.status,
        "result": cleaned_text(run.result),
        "durationMs": run.ms,
        "timestamp": iso(at),
    }
