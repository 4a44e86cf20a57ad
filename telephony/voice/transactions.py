"""The database transactions of Twilio's webhooks and of test calls. Each function is one visit.

If the connection breaks, a webhook's visit runs again, and it is then unknown whether its first run
was committed (``core.connections.run_again_if_cut``). A second run after a committed first one must
lead to the same TwiML. It is recognized by the CallSid, the call's end, or what the first one
stored: a ring is found again by the digest of its webhook, an accepted or moving call gets another
ticket in place of the first, which nobody has seen, and a call ends once. Only a ring that was
refused as busy is then refused as rejected. The timeline may say twice that a call was answered or
accepted, and metrics may lack a call that began.

``asked`` is what the timeline says about onCallStart's response. ``signed_by`` is the AccountSid
whose token signed the webhook, if that was verified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account, WebhookSecret
from accounts.throttling import is_one_of_few
from core.observers import tell
from core.queue.jobs import defer
from telephony.admission import (
    RING_LASTS,
    NotAdmitted,
    account_lock,
    admission_confirm,
    admission_require,
    has_room_for_a_ring,
    standing_require,
)
from telephony.call_log import about, log_rejection
from telephony.callbacks.attempts import Failure, Result, keep_failed
from telephony.engine.after_stream import AfterStream, Dial, as_json, from_json
from telephony.engine.codes import CallProblem, EndedReason, ErrorCode, EventKind
from telephony.engine.plan import CallPlan, sid_ending
from telephony.engine.snapshot import Snapshot
from telephony.facts import CallStarted
from telephony.links import conversation_key_in
from telephony.models import Call, FailedRequest, PhoneNumber, SealedPlan
from telephony.numbering import caller_id
from telephony.numbers import phone_number_refuse_account, phone_number_verified
from telephony.outbound import outbound_call_taken
from telephony.outcomes import Outcome
from telephony.services import (
    call_accept,
    call_end,
    call_note,
    call_record,
    conversation_keep,
)
from telephony.voice import tasks
from telephony.voice.handover import (
    MOVES_WITHIN,
    Conversation,
    conversation_key,
    moves_until,
    open_conversation,
    seal_moved,
    seal_plan,
    sealed_conversation,
    valid_for,
)
from telephony.voice.live import is_ending_here, is_held_here
from telephony.voice.twilio_form import TwilioForm

log = structlog.get_logger(__name__)

# How an outbound call ends before it connects: Twilio's status and our reason.
UNANSWERED = {
    "busy": EndedReason.BUSY,
    "no-answer": EndedReason.NO_ANSWER,
    "failed": EndedReason.FAILED,
    "canceled": EndedReason.CANCELED,
}
# Why an account may not have a call, besides its spending limit: by the code of NotAdmitted.
_NOT_ADMITTED = {
    problem.value: problem
    for problem in (
        CallProblem.PAYMENT_REQUIRED,
        CallProblem.ACCOUNT_SUSPENDED,
        CallProblem.ACCOUNT_DISABLED,
        CallProblem.TOO_MANY_CALLS,
    )
}
# Anybody who knows a number can send calls that lead nowhere. Each account records, and reports to
# its backend, at most this many rejected calls a minute: more would fill the tables and delay its
# callbacks. See also drop_if_many.
MOST_REFUSED = 30
# For an engine to record the end of a call that it has given out.
_RECORDED_WITHIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call about which the customer's backend is to be asked."""

    call: Call
    secrets: list[str]
    is_answered: bool


@dataclass(frozen=True, slots=True)
class Rejected:
    """A call that is rejected, before or after its backend was asked.

    ``word`` is the reason for TwiML, and ``why`` the reason in the call's timeline. ``call`` is
    None for a call that is not recorded.
    """

    word: str
    why: str
    call: Call | None = None


class ForeignAccount(Exception):
    """A number's calls come from a different Twilio account than before."""


def is_call_of(call_id: str, call_sid: str) -> bool:
    """Return True if the CallSid is or may be the call's: Twilio can be quicker than our record."""
    found = dict(
        Call.objects.filter(Q(pk=call_id) | Q(call_sid=call_sid)).values_list("pk", "call_sid")
    )
    return found in ({call_id: call_sid}, {call_id: None})


def receive_inbound(form: TwilioForm) -> PendingCall | Rejected:
    """Record an inbound call, unless it is rejected.

    Raises :class:`ForeignAccount` before the backend is asked.
    """
    number = (
        PhoneNumber.objects.filter(phone_number=form.called, is_active=True)
        .select_related("account")
        .first()
    )
    if number is None:
        _rejected_unrecorded("number_unknown", form.call_sid, form.called)
        return Rejected("rejected", "number_unknown")
    if number.twilio_account_sid not in ("", form.account_sid):
        _refuse_account(number, form)
        raise ForeignAccount
    return receive_on(number, call_sid=form.call_sid, caller=form.caller, digest=form.digest)


@transaction.atomic
def receive_on(
    number: PhoneNumber, *, call_sid: str, caller: str, digest: str = ""
) -> PendingCall | Rejected:
    """Record a call to a number, unless it is rejected.

    :param digest: tells a retry of a webhook from another webhook for the same call.
    """
    account = account_lock(number.account_id)
    if not Call.objects.filter(call_sid=call_sid).exists() and not has_room_for_a_ring(number):
        # Nothing is recorded: the sender of these would fill the table.
        _rejected_unrecorded("too_many_unverified_rings", call_sid, number.phone_number)
        return Rejected("busy", "too_many_calls")
    call, is_new = Call.objects.get_or_create(
        call_sid=call_sid, defaults=_ring(number, caller) | {"webhook_digest": digest}
    )
    if is_new:
        call_note(call, EventKind.RECEIVED)
    elif not _may_ask_again(call, account, digest):
        _rejected_unrecorded("repeated", call_sid, number.phone_number)
        return Rejected("rejected", "repeated")
    refusal = _refusal(account, call)
    if refusal and is_new and not _is_written_down(account):
        call.delete()
        _rejected_unrecorded(refusal.why, call_sid, number.phone_number)
        return Rejected(refusal.word, refusal.why)
    if is_new:
        transaction.on_commit(partial(tell, CallStarted(call)))
    if refusal:
        return _reject_not_admitted(call, refusal)
    return PendingCall(call, _secrets(account), is_answered=False)


def _refusal(account: Account, call: Call) -> NotAdmitted | None:
    """Return why the account may not have the call, if it may not."""
    try:
        admission_require(account, besides=call)
    except NotAdmitted as refusal:
        return refusal
    return None


def _rejected_unrecorded(why: str, call_sid: str, number: str) -> None:
    """Leave a line in the log, if the surrounding transaction commits."""
    line = partial(log_rejection, why=why, call_sid=call_sid, number=number)
    transaction.on_commit(line, robust=True)


def _is_written_down(account: Account) -> bool:
    return is_one_of_few(account, what="refused rings", most=MOST_REFUSED)


def _ring(number: PhoneNumber, caller: str) -> dict[str, Any]:
    return {
        "account_id": number.account_id,
        "direction": Call.Direction.INBOUND,
        "status": Call.Status.RINGING,
        "caller_phone": caller,
        "called_number": number.phone_number,
        "on_call_start_url": number.on_call_start_url,
        "on_call_end_url": number.on_call_end_url,
        "on_error_url": number.on_error_url,
        "held_until": timezone.now() + RING_LASTS,
    }


def _may_ask_again(call: Call, account: Account, digest: str) -> bool:
    """Return True if the backend may be asked again about a call that never connected.

    Twilio's retry has reached another process, or the process that had the call has died.
    """
    return (
        call.account_id == account.id
        and call.webhook_digest == digest
        and call.ended_at is None
        and call.accepted_at is None
        and timezone.now() < call.held_until
    )


@transaction.atomic
def _refuse_account(number: PhoneNumber, form: TwilioForm) -> None:
    """Tell the number's owner, at most once an hour: anybody can send such a webhook."""
    if phone_number_refuse_account(number=number, account_sid=form.account_sid):
        ring = _ring(number, form.caller)
        call, is_new = Call.objects.get_or_create(call_sid=form.call_sid, defaults=ring)
        if is_new:
            transaction.on_commit(partial(tell, CallStarted(call)))
            call_note(call, EventKind.RECEIVED)
            message = (
                f"A call to {number} came from the Twilio account {sid_ending(form.account_sid)}, "
                f"but the number is bound to {sid_ending(number.twilio_account_sid)}. If you have "
                "moved the number, confirm its new account on the number's page, or with "
                f"PATCH /api/phone-numbers/{number.id}."
            )
            call_note(call, EventKind.REFUSED, why=ErrorCode.ACCOUNT_SID_MISMATCH)
            _reject(call, errors=[(ErrorCode.ACCOUNT_SID_MISMATCH, message)])
            return
    _rejected_unrecorded(ErrorCode.ACCOUNT_SID_MISMATCH, form.call_sid, number.phone_number)


def _reject_not_admitted(call: Call, refusal: NotAdmitted) -> Rejected:
    """End a call that the account may not have."""
    call_note(call, EventKind.REFUSED, why=refusal.why)
    if refusal.code == ErrorCode.SPENDING_LIMIT_REACHED:
        _reject(call, errors=[(ErrorCode.SPENDING_LIMIT_REACHED, refusal.message)])
    else:
        _reject(call, problem=_NOT_ADMITTED[refusal.code])
    return Rejected(refusal.word, refusal.why, call)


def receive_answer(call_id: str, form: TwilioForm) -> PendingCall | None:
    """Record that an outbound call was answered; return None if it is to be hung up."""
    outbound_call_taken(call_id=call_id, call_sid=form.call_sid)
    with transaction.atomic():
        account = account_lock(Call.objects.values_list("account_id", flat=True).get(pk=call_id))
        call = Call.objects.select_for_update().get(pk=call_id)
        if call.answered_at is not None or not _is_wanted(call):
            return None
        try:
            standing_require(account)
        except NotAdmitted as refusal:
            _reject_not_admitted(call, refusal)
            return None
        call.answered_by = form.line("AnsweredBy", 32)
        call.status = Call.Status.RINGING
        call.held_until = timezone.now() + RING_LASTS
        call.save(update_fields=["answered_by", "status", "held_until"])
        call_note(call, EventKind.ANSWERED, by=call.answered_by or "unknown")
    return PendingCall(call, _secrets(account), is_answered=True)


@transaction.atomic
def accept(call: Call, plan: CallPlan, *, asked: dict[str, Any], signed_by: str = "") -> str | None:
    """Accept the call: return its ticket, or None if it has ended or is to be hung up.

    Raises :class:`NotAdmitted` if the account may not have the call (any more).
    """
    account = account_lock(call.account_id)
    locked = Call.objects.select_for_update().get(pk=call.pk)
    if not _is_wanted(locked):
        return None
    admission_confirm(account, call)
    _note_signature(call, signed_by)
    now = timezone.now()
    call_accept(call, metadata=plan.metadata, held_until=now + valid_for(plan), **asked)
    if plan.is_test:
        _close_unless_connected(call, at=now + valid_for(plan))
    ticket = seal_plan(call, plan, now)
    if not plan.is_test:
        first = Conversation(Snapshot.at_start(plan), now)
        conversation_keep(call, sealed_conversation(call, conversation_key(ticket), first))
    return ticket


def _close_unless_connected(call: Call, *, at: datetime) -> None:
    """End a test call later if its browser never connects: nothing would report that."""
    defer("telephony.voice.tasks.close_unconnected", at=at, call_id=call.id)


def _is_wanted(call: Call) -> bool:
    """Return True if the locked call should continue; end it here if a hangup was requested."""
    if call.ended_at is not None:
        return False
    if call.hangup_requested_at is not None:
        call_end(call_id=call.id, status=Call.Status.CANCELED, reason=EndedReason.API_HANGUP)
        return False
    return True


@transaction.atomic
def reject_not_admitted(call: Call, refusal: NotAdmitted) -> Rejected:
    """End a call that its backend would have accepted."""
    return _reject_not_admitted(call, refusal)


@transaction.atomic
def refuse(call: Call, reason: str, *, asked: dict[str, Any], signed_by: str = "") -> None:
    """End a call that the backend rejected."""
    if _has_ended(call):
        return
    _note_signature(call, signed_by)
    call_note(call, EventKind.DECLINED, reason=reason, **asked)
    _reject(call, status=Call.Status.BUSY if reason == "busy" else Call.Status.REJECTED)


@transaction.atomic
def transfer(call: Call, to: str, *, asked: dict[str, Any], signed_by: str = "") -> bool:
    """Transfer the call, which ends our part; return False if it has ended already."""
    account_lock(call.account_id)
    locked = Call.objects.select_for_update().get(pk=call.pk)
    if locked.ended_reason == EndedReason.TRANSFERRED:  # this runs again
        return True
    if not _is_wanted(locked):
        return False
    _note_signature(call, signed_by)
    call_accept(call, **asked)
    call_note(call, EventKind.TRANSFERRED, to=to)
    call_end(call_id=call.id, status=Call.Status.COMPLETED, reason=EndedReason.TRANSFERRED)
    return True


@transaction.atomic
def distrust(call: Call, doubt: tuple[ErrorCode, str], *, asked: dict[str, Any]) -> None:
    """End a call whose webhook is not from Twilio. The customer is told, unless there are many."""
    if not _dropped(call):
        fail(call, doubt, asked=asked)


@transaction.atomic
def drop_if_many(call: Call) -> bool:
    """Delete a ring that is one of too many whose sender may be anybody; return True if it was.

    Only the Twilio account of a bound number can send its rings, and its backend may fail or reject
    as many callers as there are.
    """
    theirs = PhoneNumber.objects.filter(account_id=call.account_id)
    bound = theirs.filter(phone_number=call.called_number).exclude(twilio_account_sid="")
    return not bound.exists() and _dropped(call)


def _dropped(call: Call) -> bool:
    """Delete a ring that is one too many in this minute; return True if it was."""
    is_ring = call.direction == Call.Direction.INBOUND and call.accepted_at is None
    if not is_ring or _is_written_down(call.account):
        return False
    Call.objects.filter(pk=call.pk, accepted_at=None).delete()
    _rejected_unrecorded("too_many_rejected", call.call_sid or "", call.called_number)
    return True


@transaction.atomic
def fail(
    call: Call,
    error: tuple[ErrorCode, str],
    result: Result | None = None,
    *,
    asked: dict[str, Any],
) -> None:
    """End a call that cannot be accepted, and tell its customer why.

    :param result: how onCallStart failed, if it did.
    """
    if _has_ended(call):
        return
    if result is not None:
        failed = Failure(FailedRequest.Kind.CALL_START, call.on_call_start_url, result)
        keep_failed(call.id, call.account_id, [failed])
    call_note(call, EventKind.NOT_ACCEPTED, code=error[0], **asked)
    _reject(call, status=Call.Status.REJECTED, errors=[error])


def _has_ended(call: Call) -> bool:
    """Return True if the call, which is locked, has ended or was dropped."""
    return not Call.objects.live().select_for_update().filter(pk=call.pk).values("pk").first()


def _reject(
    call: Call,
    *,
    status: str = Call.Status.REJECTED,
    errors: Sequence[tuple[ErrorCode, str]] = (),
    problem: CallProblem | None = None,
) -> None:
    """End a rejected call, unless a retry of its webhook has connected it meanwhile.

    Twilio may have sent the retry to another process.
    """
    locked = Call.objects.select_for_update().get(pk=call.pk)
    if locked.answered_at is not None or SealedPlan.objects.filter(call=locked).exists():
        with about(call):
            log.warning("rejected_call_already_connected")
        return
    call_end(
        call_id=call.id,
        status=status,
        reason=EndedReason.REJECTED,
        errors=errors,
        problem=problem,
    )


def _note_signature(call: Call, signed_by: str) -> None:
    if signed_by and call.direction == Call.Direction.INBOUND:
        phone_number_verified(
            account_id=call.account_id, phone_number=call.called_number, account_sid=signed_by
        )


def outbound_status(call_id: str, form: TwilioForm) -> None:
    """Record the status of an outbound call. It may come late or out of order."""
    outbound_call_taken(call_id=call_id, call_sid=form.call_sid)
    status = form.fields.get("CallStatus", "")
    if status in UNANSWERED:
        _end_unanswered(call_id, status)
    elif status == "completed":
        _close_soon(call_id, status)
    elif status == "ringing":
        _note_ringing(call_id)


@transaction.atomic
def _note_ringing(call_id: str) -> None:
    queued = Call.objects.live().filter(pk=call_id, status=Call.Status.QUEUED)
    if queued.update(status=Call.Status.RINGING):
        call_note(Call.objects.get(pk=call_id), EventKind.RINGING)


@transaction.atomic
def _end_unanswered(call_id: str, status: str) -> None:
    """End an unanswered call. A call with audio was answered, whatever the status says."""
    call = Call.objects.select_for_update().get(pk=call_id)
    if call.answered_at is None:
        call_end(call_id=call_id, status=status, reason=UNANSWERED[status])
    elif call.ended_at is None:
        _note_once(call, EventKind.STATUS_IGNORED, status=status)


def stream_status(call_id: str, form: TwilioForm) -> None:
    """End the call with its stream, in case the process that held it does not."""
    event = form.fields.get("StreamEvent", "")
    match event:
        case "stream-error":
            _note_stream_error(call_id, form.line("StreamError", 200))
            _close_soon(call_id, event)
        case "stream-stopped":
            _close_soon(call_id, event)


@transaction.atomic
def _note_stream_error(call_id: str, message: str) -> None:
    call = Call.objects.select_for_update().get(pk=call_id)
    _note_once(call, EventKind.STREAM_ERROR, message=message)


def _note_once(call: Call, kind: EventKind, **detail: Any) -> None:
    """Add only the first of a kind to the locked call's timeline: a link can be used any number of
    times.
    """
    if not call.events.filter(kind=kind).exists():
        call_note(call, kind, **detail)


def after_stream_keep(call: Call, after: AfterStream) -> None:
    """Store what Twilio is to do once the media stream is closed."""
    if isinstance(after, Dial):
        after = Dial(after.to, caller_id(call.caller_phone, call.called_number))
    Call.objects.filter(pk=call.pk).update(after_stream=as_json(after))


@transaction.atomic
def hand_over(
    call: Call,
    outcome: Callable[[], Outcome],
    engine_id: str,
    audio_ended_at: datetime | None = None,
) -> bool:
    """Store the conversation for another stream; return False if the call is not this engine's.

    No engine holds the call until one has its next stream. It ends if that does not come in time.

    :param audio_ended_at: when the stream broke, if it did.
    """
    held = Call.objects.live().filter(pk=call.pk, engine_id__in=["", engine_id])
    now = timezone.now()
    given_out = {"engine_id": "", "last_seen_at": now, "held_until": now + MOVES_WITHIN}
    if not held.update(**given_out, audio_ended_at=audio_ended_at):
        return False
    call_record(call.id, call.account_id, [], outcome())
    return True


def take_back(call: Call, engine_id: str) -> None:
    """Hold the call again that was handed over, unless another engine has it."""
    given_out = Call.objects.live().filter(pk=call.pk, engine_id="")
    given_out.update(engine_id=engine_id, last_seen_at=timezone.now())


@dataclass(frozen=True, slots=True)
class Moving:
    """A call that another engine may take up with the ticket."""

    call: Call
    plan: CallPlan
    ticket: str = field(repr=False)
    key: str = field(repr=False)


@transaction.atomic
def move(call_id: str, form: TwilioForm) -> Moving | None:
    """Let the call go on, if its stream broke or its engine stopped; return None if it has ended
    or may not.

    A call whose first stream could not be opened begins anew. The URL has the key to the
    conversation. Twilio's signature is checked with the token in it.
    """
    call = Call.objects.select_for_update().get(pk=call_id)
    if call.ended_at is not None or call.after_stream is not None or is_held_here(call_id):
        return None
    key, now = conversation_key_in(form.path), timezone.now()
    conversation, until = open_conversation(call, key), moves_until(call, now)
    if conversation is None or until is None:
        return None
    plan = conversation.snapshot.plan
    if call.answered_at is not None and conversation.taken_at < call.answered_at:
        conversation = replace(conversation, taken_at=call.answered_at)
    if not form.is_signed_with(plan.twilio_auth_token):
        return None
    if form.fields.get("CallStatus") != Call.Status.IN_PROGRESS:
        if call.answered_at and not call.engine_id:
            _hung_up_while_moving(call, now)
        return None
    Call.objects.filter(pk=call.pk).update(held_until=until)
    return Moving(call, plan, seal_moved(call, key, conversation, until), key)


def _hung_up_while_moving(call: Call, now: datetime) -> None:
    """Let a sweep end a call that no engine holds, where its conversation was given out.

    The engine that gave it out may have been about to close the stream, so that the caller talked
    on. Then it records the end, which it knows exactly, within this time.
    """
    call.audio_ended_at = call.audio_ended_at or call.last_seen_at
    call.held_until = min(call.held_until or now, now + _RECORDED_WITHIN)
    call.save(update_fields=["audio_ended_at", "held_until"])


def after_stream(call_id: str) -> AfterStream:
    """Return what Twilio is to do now that the media stream is closed."""
    _close_soon(call_id, "stream-stopped")
    return from_json(Call.objects.values_list("after_stream", flat=True).get(pk=call_id))


def _close_soon(call_id: str, status: str) -> None:
    """End a call that is reported as ended, unless an engine holds it: see ``tasks.close_call``."""
    if is_ending_here(call_id) or not Call.objects.live().filter(pk=call_id).exists():
        return
    now = timezone.now()
    defer(
        "telephony.voice.tasks.close_call",
        at=now + tasks.CLOSE_AFTER,
        only_one=f"close_call {call_id}",
        call_id=call_id,
        ended_at=now.isoformat(),
        status=status,
    )


def _secrets(account: Account) -> list[str]:
    return WebhookSecret.objects.get(account=account).secrets(timezone.now())
