"""The life of a call in the database: received, accepted, connected, ended.

Each step is one transaction, and can be retried.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from core.api import iso
from core.observers import tell
from core.texts import cleaned_json, cleaned_text
from telephony import incidents
from telephony.admission import account_lock
from telephony.call_days import call_count
from telephony.call_figures import Figures, figures_at_end
from telephony.call_log import about, log_end
from telephony.call_search import metadata_set
from telephony.call_sids import is_test_sid
from telephony.callbacks import outbox, payloads
from telephony.callbacks.attempts import Failure, keep_failed
from telephony.callbacks.payloads import CallFacts
from telephony.engine.codes import CallProblem, EndedReason, ErrorCode, EventKind, OnErrorCode
from telephony.engine.costs import twilio_cost
from telephony.engine.models import retirement_of
from telephony.engine.tool_runs import ToolRun
from telephony.facts import CallEnded, CallResumed
from telephony.models import Call, CallEvent, CallProgress, SealedConversation
from telephony.outcomes import Outcome, cost_of, opened, sealed
from telephony.retirements import model_used
from usage.models import UsageRecord
from usage.services import usage_record_complete, usage_record_create, whole_minutes

log = structlog.get_logger(__name__)

# How long sweeps skip a call that one of them failed at, so that it never holds up the rest.
LEFT_ALONE = timedelta(minutes=1)

LONGEST_ERROR_CODE = Call._meta.get_field("error_code").max_length
# The fields that a call's end sets.
_LATENCIES = ("first_audio_ms", "turn_p50_ms", "turn_p95_ms")
_END = ("status", "ended_reason", "error_code", "ended_at", "duration_seconds", *_LATENCIES)
# By a tool run's status.
_TOOL_PROBLEMS = {"failed": CallProblem.TOOL_FAILED, "timed_out": CallProblem.TOOL_TIMEOUT}

Timed = tuple[datetime, EventKind, dict[str, Any]]


@transaction.atomic
def call_accept(
    call: Call, *, metadata: Any = None, held_until: datetime | None = None, **detail: Any
) -> None:
    """Accept a call for its backend: from now on it counts, however it ends.

    :param held_until: when it ends unless its audio has started.
    :param detail: for the timeline.
    """
    call.accepted_at = call.accepted_at or timezone.now()
    if metadata is not None:
        metadata_set(call, metadata)
    if held_until is not None:
        call.held_until = held_until
    call.save(update_fields=["accepted_at", "metadata", "held_until"])
    call_note(call, EventKind.ACCEPTED, **detail)


@transaction.atomic
def call_connect(call: Call, *, now: datetime, engine_id: str = "") -> bool:
    """Connect the caller's audio; return False if the call has ended.

    :param engine_id: the engine that holds the call. It reports the call from now on. Until its
        first report, the call has cost nothing.
    """
    connected = Call.objects.live().filter(pk=call.pk, answered_at=None)
    held = {"answered_at": now, "last_seen_at": now, "engine_id": engine_id}
    if not connected.update(status=Call.Status.IN_PROGRESS, **held):
        return False
    call.refresh_from_db(fields=["status", *held])
    call_note(call, EventKind.CONNECTED, at=now)
    return True


@transaction.atomic
def call_move(call: Call, *, now: datetime, engine_id: str) -> bool:
    """Connect the caller's audio to another engine; return False if the call has ended.

    False also if the caller has hung up: the call no longer counts as one in progress.
    """
    held = {"last_seen_at": now, "engine_id": engine_id, "audio_ended_at": None}
    moving = Call.objects.live().with_a_caller().filter(pk=call.pk)
    if not moving.update(**held):
        return False
    call.refresh_from_db(fields=[*held])
    return True


def call_note(call: Call, kind: EventKind, *, at: datetime | None = None, **detail: Any) -> None:
    """Add an entry to the call's timeline."""
    _event(call.id, call.account_id, (at or timezone.now(), kind, detail)).save(force_insert=True)


@transaction.atomic
def call_record(
    call_id: str,
    account_id: str,
    events: Iterable[Timed],
    outcome: Outcome | None = None,
    failed: Sequence[Failure] = (),
    *,
    held_by: str = "",
) -> None:
    """Store the state of a call in progress: entries of the timeline, and the conversation.

    The conversation comes from the engine that holds the call, so the first one is a sign of life
    too. Later ones need not be: the engine has its heartbeat.

    :param held_by: the engine. If the call has moved to another one, its conversation is ignored.
    """
    CallEvent.objects.bulk_create(_event(call_id, account_id, event) for event in events)
    keep_failed(call_id, account_id, failed)
    if outcome is None:
        return
    # Nothing is stored after the end, which would never be deleted.
    live = Call.objects.live().select_for_update(no_key=True).filter(pk=call_id)
    fields = ("answered_at", "last_seen_at", "billed_from", "engine_id")
    call = live.only(*fields).first()
    if call is None or (held_by and call.engine_id != held_by):
        return
    now = timezone.now()
    if _is_unheard_of(call) or call.billed_from != outcome.billed_from:
        live.update(last_seen_at=now, billed_from=outcome.billed_from)
    progress = CallProgress(
        call_id=call_id, account_id=account_id, sealed=sealed(outcome), updated_at=now
    )
    CallProgress.objects.bulk_create(
        [progress],
        update_conflicts=True,
        unique_fields=["call"],
        update_fields=["sealed", "updated_at"],
    )
    if outcome.conversation:
        conversation_keep(call, outcome.conversation)


def conversation_keep(call: Call, sealed: bytes) -> None:
    """Store a call's conversation, sealed, for the engine that goes on with it."""
    SealedConversation.objects.bulk_create(
        [SealedConversation(call=call, ciphertext=sealed)],
        update_conflicts=True,
        unique_fields=["call"],
        update_fields=["ciphertext"],
    )


def _is_unheard_of(call: Call) -> bool:
    """Return True if the engine that holds the call has not reported it yet."""
    answered_at, seen_at = call.answered_at, call.last_seen_at
    return answered_at is None or seen_at is None or seen_at <= answered_at


def _event(call_id: str, account_id: str, event: Timed) -> CallEvent:
    """Return an entry of the timeline that PostgreSQL accepts, whoever wrote its texts."""
    at, kind, detail = event
    return CallEvent(
        account_id=account_id, call_id=call_id, at=at, kind=kind, detail=cleaned_json(detail)
    )


def call_report_error(call: Call, *, code: OnErrorCode, message: str) -> None:
    """Send onError, in the caller's transaction or one of its own."""
    word, message = cleaned_text(code), cleaned_text(message)
    with transaction.atomic():
        call_note(call, EventKind.ERROR, code=word, message=message)
        outbox.enqueue_error(call, code=word, message=message)


def call_audio_ended(*, call_id: str, at: datetime, held_by: str = "") -> None:
    """Stop charging: the caller is gone, and only the record of the conversation is pending."""
    ended = Call.objects.live().filter(pk=call_id, audio_ended_at=None)
    if held_by:
        ended = ended.filter(engine_id=held_by)
    ended.update(audio_ended_at=at)


@transaction.atomic
def call_end(
    *,
    call_id: str,
    status: str,
    reason: EndedReason,
    ended_at: datetime | None = None,
    outcome: Outcome | None = None,
    errors: Sequence[tuple[OnErrorCode, str]] = (),
    problem: CallProblem | None = None,
    events: Iterable[Timed] = (),
    failed: Sequence[Failure] = (),
    held_by: str = "",
) -> bool:
    """End a call: its record, its usage, the totals, onCallEnd. Return False if it has ended.

    Everything that learns of an end calls this, and the first one wins. Without an ``outcome``, the
    one that the engine last stored counts, as far as it can be read. The timeline then says what is
    missing, and the estimate of an unknown cost is 0. Minutes are billed from the ``billed_from``
    of the ``outcome`` or, without one, of the call, where the engine stored it. A call that was
    never accepted leaves only a record. Each end leaves a line in the log.

    :param errors: ``(code, message)`` for onError. The last one or, without any, the ``problem`` is
        the call's error code.
    :param events: the last entries of the timeline.
    :param failed: the last failed requests to the backend.
    :param held_by: the engine that ends it, which cannot end what has moved to another one.
    """
    call = Call.objects.select_for_update().get(pk=call_id)
    if call.ended_at is not None or _is_elsewhere(call, held_by):
        return False
    with about(call):
        kept = CallProgress.objects.filter(call=call).first()
        if outcome is None:
            outcome = opened(kept) if kept else Outcome()
        else:
            call.billed_from = outcome.billed_from
        if kept:
            kept.delete()
        SealedConversation.objects.filter(call=call).delete()
        call.error_code = _error_code(reason, errors, problem, outcome)
        call.ended_at = max(ended_at or timezone.now(), call.answered_at or call.created_at)
        call_record(call.id, call.account_id, events, failed=failed)
        figures = figures_at_end(call)
        _close(call, figures, status=status, reason=reason, ended_at=call.ended_at)
        for code, message in errors:
            call_report_error(call, code=code, message=message)
        call_note(call, EventKind.ENDED, at=call.ended_at, reason=reason)
        call_count(call, figures)
        record = None
        if call.accepted_at is not None and call.call_sid:
            record = _charge_and_report(call, call.call_sid, outcome)
        incidents.call_ended(call)
    ended = CallEnded(call, outcome.model, outcome.usage, len(outcome.tool_calls), record)
    transaction.on_commit(partial(tell, ended))
    transaction.on_commit(partial(log_end, call, figures, record), robust=True)
    return True


def _charge_and_report(call: Call, call_sid: str, outcome: Outcome) -> UsageRecord:
    """Record the usage of an accepted call that has ended, and send onCallEnd."""
    cost = cost_of(outcome)
    missing = outcome.missing | ({"cost"} if cost is None else set())
    if missing:
        call_note(call, EventKind.INCOMPLETE, at=call.ended_at, missing=", ".join(sorted(missing)))
    record = _record_usage(call, call_sid, cost or Decimal(0))
    model_used(call, _spoke(call, outcome), at=call.ended_at or timezone.now())
    outbox.enqueue_call_end(call, _call_end_body(call, record, outcome))
    return record


def _error_code(
    reason: EndedReason,
    errors: Sequence[tuple[OnErrorCode, str]],
    problem: CallProblem | None,
    outcome: Outcome,
) -> str:
    """Return what went wrong, as ``Call.error_code`` stores it; "" if nothing did."""
    if errors:
        return cleaned_text(errors[-1][0])[:LONGEST_ERROR_CODE]
    if problem is not None:
        return problem
    if reason is EndedReason.FAILED:
        return CallProblem.NOT_CONNECTED
    statuses = (run.get("status") for run in outcome.tool_calls)
    return next((_TOOL_PROBLEMS[status] for status in statuses if status in _TOOL_PROBLEMS), "")


def call_leave_alone(call_id: str) -> None:
    """Keep sweeps from a call that one of them failed at, for a while."""
    Call.objects.filter(pk=call_id).update(swept_after=timezone.now() + LEFT_ALONE)


@transaction.atomic
def call_end_lost(*, call_id: str, ended_at: datetime) -> bool:
    """End a connected call whose engine is gone."""
    Call.objects.live().filter(pk=call_id).update(lost_at=timezone.now())
    return call_end(
        call_id=call_id,
        status=Call.Status.COMPLETED,
        reason=EndedReason.ENGINE_LOST,
        ended_at=ended_at,
        errors=[(ErrorCode.ENGINE_LOST, ErrorCode.ENGINE_LOST.meaning)],
    )


@transaction.atomic
def call_resume(*, call_id: str, held_by: str = "") -> bool:
    """Undo the loss of a call whose engine was only cut off, and has reported again.

    Callbacks about the loss that are not delivered yet are cancelled. Charges stay, and the call's
    end adds the rest. Returns False if the call was not lost.

    :param held_by: the engine that reports it, and holds it again. It cannot resume what has moved
        to another one.
    """
    account_lock(Call.objects.values_list("account_id", flat=True).get(pk=call_id))
    call = Call.objects.select_for_update().get(pk=call_id)
    if call.ended_reason != EndedReason.ENGINE_LOST or _is_elsewhere(call, held_by):
        return False
    call_count(call, figures_at_end(call), times=-1)
    call.status, call.ended_reason, call.error_code = Call.Status.IN_PROGRESS, "", ""
    call.ended_at, call.duration_seconds = None, 0
    call.first_audio_ms = call.turn_p50_ms = call.turn_p95_ms = None
    call.last_seen_at, call.engine_id = timezone.now(), held_by or call.engine_id
    call.save(update_fields=[*_END, "last_seen_at", "engine_id"])
    outbox.withdraw_end(call)
    call_note(call, EventKind.RESUMED)
    with about(call):
        log.warning("call_resumed")
    transaction.on_commit(partial(tell, CallResumed(call)))
    return True


def _is_elsewhere(call: Call, held_by: str) -> bool:
    """Return True if the call has moved to another engine than this one."""
    return held_by != "" and call.engine_id not in ("", held_by)


def _close(
    call: Call, figures: Figures, *, status: str, reason: EndedReason, ended_at: datetime
) -> None:
    call.status, call.ended_reason = status, reason
    call.duration_seconds = _seconds(call.answered_at, ended_at)
    call.first_audio_ms = figures.first_audio
    call.turn_p50_ms, call.turn_p95_ms = figures.turn(0.5), figures.turn(0.95)
    call.save(update_fields=[*_END, "billed_from"])


def _seconds(since: datetime | None, until: datetime) -> int:
    """Return the time between the two, in started seconds; 0 if it never began."""
    return max(math.ceil((until - since).total_seconds()), 0) if since else 0


def _record_usage(call: Call, call_sid: str, openai_cost: Decimal) -> UsageRecord:
    # A call that was ended as lost was already charged for what was known then.
    record = usage_record_complete if call.lost_at else usage_record_create
    ended_at = call.ended_at or timezone.now()
    return record(
        account_id=call.account_id,
        call_sid=call_sid,
        direction=call.direction,
        caller_phone=call.caller_phone,
        called_number=call.called_number,
        duration_seconds=call.duration_seconds,
        billed_seconds=_seconds(call.billed_from, ended_at),
        twilio_cost=_twilio_cost(call, call_sid),
        openai_cost=openai_cost,
        ended_at=ended_at,
    )


def _twilio_cost(call: Call, call_sid: str) -> Decimal:
    """Return the estimate of Twilio's charges: Twilio bills from the answer, model or not."""
    if is_test_sid(call_sid):
        return Decimal(0)
    inbound = call.direction == Call.Direction.INBOUND
    our_number = call.called_number if inbound else call.caller_phone
    return twilio_cost(call.direction, our_number, whole_minutes(call.duration_seconds))


def _spoke(call: Call, outcome: Outcome) -> str:
    """Return the model that spoke in the call; "" if none did."""
    return outcome.model if call.billed_from else ""


def _call_end_body(call: Call, record: UsageRecord, outcome: Outcome) -> dict[str, Any]:
    now, model = call.ended_at or timezone.now(), _spoke(call, outcome)
    retirement = retirement_of(model, now.date())
    return payloads.call_end(
        CallFacts.of(call),
        duration_seconds=call.duration_seconds,
        ended_reason=call.ended_reason,
        transcript=outcome.transcript,
        tool_calls=outcome.tool_calls,
        cost_breakdown=record.cost_breakdown,
        latency=call.latency,
        now=now,
        model=model,
        warnings=[payloads.model_retires(retirement)] if retirement else [],
    )


def transcript_line(role: str, text: str, at: datetime, *, interrupted: bool) -> dict[str, Any]:
    """Return a turn in the format of onCallEnd, without characters that PostgreSQL cannot store."""
    line: dict[str, Any] = {"role": role, "text": cleaned_text(text), "timestamp": iso(at)}
    return line | {"interrupted": True} if interrupted else line


def tool_call_line(run: ToolRun, at: datetime) -> dict[str, Any]:
    """Return the outcome of a tool call in the format of onCallEnd."""
    return {
        "toolName": cleaned_text(run.name),
        "status": run.status,
        "result": cleaned_text(run.result),
        "durationMs": run.ms,
        "timestamp": iso(at),
    }
