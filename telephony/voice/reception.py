"""What Twilio's webhooks do in the database. Each function is one visit to it.

``asked_ms`` is how long onCallStart took to answer, or to fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account, WebhookSecret
from config.jobs import defer
from telephony.engine.plan import CallPlan
from telephony.models import Call, PhoneNumber
from telephony.outbound import outbound_call_taken
from telephony.services import call_accept, call_end, call_note
from telephony.voice import tasks
from telephony.voice.handover import seal_plan
from usage.spending import spending_of

log = structlog.get_logger(__name__)

# A call whose backend was never heard may be asked for again (Twilio's repetition reached another
# process, or ours died), for as long as Twilio waits for a webhook.
ASK_AGAIN_WITHIN = timedelta(seconds=15)

# How a call that we placed ends without us, in Twilio's words and in ours.
UNANSWERED = {
    "busy": "busy",
    "no-answer": "no_answer",
    "failed": "failed",
    "canceled": "canceled",
}


@dataclass(frozen=True, slots=True)
class TwilioForm:
    """A request of Twilio's: its form, the path (with query) it was posted to, its signature."""

    fields: Mapping[str, str]
    path: str
    signature: str

    @property
    def call_sid(self) -> str:
        return self.fields.get("CallSid", "")

    @property
    def account_sid(self) -> str:
        return self.fields.get("AccountSid", "")

    @property
    def caller(self) -> str:
        return self.fields.get("From", "")[:64]

    @property
    def called(self) -> str:
        return self.fields.get("To", "")[:64]


@dataclass(frozen=True, slots=True)
class Reception:
    """A call that its customer is to be asked about."""

    call: Call
    secrets: list[str]
    is_answered: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an account may not take a call, what its caller hears, and what onError is told."""

    why: str
    answer: str = "rejected"
    errors: list[tuple[str, str]] = field(default_factory=list)


def is_call_of(call_id: str, call_sid: str) -> bool:
    """Whether the CallSid is the call's, or may be: Twilio can be quicker than our record."""
    found = dict(
        Call.objects.filter(Q(pk=call_id) | Q(call_sid=call_sid)).values_list("pk", "call_sid")
    )
    return found in ({call_id: call_sid}, {call_id: None})


def receive_inbound(form: TwilioForm) -> Reception | str:
    """Write down that a number is rung; return the reason instead if the call is not taken."""
    number = (
        PhoneNumber.objects.filter(phone_number=form.called, is_active=True)
        .select_related("account")
        .first()
    )
    if number is None:
        log.info("number_unknown", called=form.called)
        return "rejected"
    return receive_on(number, call_sid=form.call_sid, caller=form.caller)


def receive_on(number: PhoneNumber, *, call_sid: str, caller: str) -> Reception | str:
    """Write down a call to a number; return the reason instead if the call is not taken."""
    with transaction.atomic():
        call, is_new = Call.objects.get_or_create(
            call_sid=call_sid,
            defaults={
                "account": number.account,
                "direction": Call.Direction.INBOUND,
                "status": Call.Status.RINGING,
                "caller_phone": caller,
                "called_number": number.phone_number,
                "on_call_start_url": number.on_call_start_url,
                "on_call_end_url": number.on_call_end_url,
                "on_error_url": number.on_error_url,
            },
        )
        if is_new:
            call_note(call, "received")
        elif not _may_ask_again(call, number.account):
            return "rejected"
        if refusal := _refusal(number.account):
            return _turn_away(call, refusal)
    return Reception(call, _secrets(number.account), is_answered=False)


def _may_ask_again(call: Call, account: Account) -> bool:
    return (
        call.account_id == account.id
        and call.ended_at is None
        and call.accepted_at is None
        and timezone.now() < call.created_at + ASK_AGAIN_WITHIN
    )


def _refusal(account: Account) -> Refusal | None:
    if account.effective_status != Account.Status.ACTIVE or not account.is_active:
        return Refusal(f"account_{account.effective_status.lower()}")
    # The call itself is among them.
    if Call.objects.of(account).live().count() > settings.MAX_CONCURRENT_CALLS:
        return Refusal("too_many_calls", answer="busy")
    if spending_of(account).is_reached:
        error = (
            "spending_limit_reached",
            "The account has spent its limit for this month: raise it, or wait for the next month.",
        )
        return Refusal(error[0], errors=[error])
    return None


def _turn_away(call: Call, refusal: Refusal) -> str:
    """End a call that the account may not take; return what its caller hears."""
    call_note(call, "refused", why=refusal.why)
    _reject(call, errors=refusal.errors)
    return refusal.answer


def receive_answer(call_id: str, form: TwilioForm) -> Reception | None:
    """Write down that a call which we placed was answered; None if it is to be hung up."""
    outbound_call_taken(call_id=call_id, call_sid=form.call_sid)
    call = Call.objects.select_related("account").get(pk=call_id)
    if call.ended_at is not None or call.answered_at is not None:
        return None
    if call.hangup_requested_at is not None:
        call_end(call_id=call_id, status=Call.Status.CANCELED, reason="api_hangup")
        return None
    call.answered_by = form.fields.get("AnsweredBy", "")[:32]
    call.status = Call.Status.RINGING
    call.save(update_fields=["answered_by", "status"])
    call_note(call, "answered", by=call.answered_by or "unknown")
    return Reception(call, _secrets(call.account), is_answered=True)


@transaction.atomic
def accept(call: Call, plan: CallPlan, *, asked_ms: int) -> str | None:
    """The call may come in: return its ticket, or None if it has ended or is to be hung up."""
    locked = Call.objects.select_for_update().get(pk=call.pk)
    if locked.ended_at is not None:
        return None
    if locked.hangup_requested_at is not None:
        call_end(call_id=call.id, status=Call.Status.CANCELED, reason="api_hangup")
        return None
    call_accept(call, metadata=plan.metadata, onCallStartMs=asked_ms)
    return seal_plan(call, plan, timezone.now())


@transaction.atomic
def refuse(call: Call, reason: str, *, asked_ms: int) -> None:
    """The customer does not want the call."""
    call_note(call, "declined", reason=reason, onCallStartMs=asked_ms)
    _reject(call, status=Call.Status.BUSY if reason == "busy" else Call.Status.REJECTED)


@transaction.atomic
def transfer(call: Call, to: str, *, asked_ms: int) -> None:
    """The customer has the call put through: our part of it is over."""
    call_accept(call, onCallStartMs=asked_ms)
    call_note(call, "transferred", to=to)
    call_end(call_id=call.id, status=Call.Status.COMPLETED, reason="transferred")


@transaction.atomic
def fail(call: Call, error: tuple[str, str], *, asked_ms: int) -> None:
    """The call cannot be taken: its customer hears why."""
    call_note(call, "not_accepted", code=error[0], onCallStartMs=asked_ms)
    _reject(call, status=Call.Status.REJECTED, errors=[error])


def _reject(
    call: Call,
    *,
    status: str = Call.Status.REJECTED,
    errors: list[tuple[str, str]] | None = None,
) -> None:
    call_end(call_id=call.id, status=status, reason="rejected", errors=errors or [])


def outbound_status(call_id: str, form: TwilioForm) -> None:
    """Take note of the status of a call that we placed; it may come late or out of order."""
    outbound_call_taken(call_id=call_id, call_sid=form.call_sid)
    status = form.fields.get("CallStatus", "")
    if status in UNANSWERED:
        call_end(call_id=call_id, status=status, reason=UNANSWERED[status])
    elif status == "completed":
        _close_soon(call_id)
    elif status == "ringing":
        queued = Call.objects.live().filter(pk=call_id, status=Call.Status.QUEUED)
        if queued.update(status=Call.Status.RINGING):
            call_note(Call.objects.get(pk=call_id), "ringing")


def stream_status(call_id: str, form: TwilioForm) -> None:
    """The stream's end ends the call too, when the process that held it does not."""
    match form.fields.get("StreamEvent"):
        case "stream-error":
            message = form.fields.get("StreamError", "")[:200]
            call_note(Call.objects.get(pk=call_id), "stream_error", message=message)
            _close_soon(call_id)
        case "stream-stopped":
            _close_soon(call_id)


def after_stream(call_id: str) -> dict[str, Any] | None:
    """Return what Twilio is to do now; see ``Call.after_stream``."""
    _close_soon(call_id)
    after: dict[str, Any] | None = Call.objects.values_list("after_stream", flat=True).get(
        pk=call_id
    )
    return after


def _close_soon(call_id: str) -> None:
    """End a call that Twilio says is over, after its engine had the time to do that better."""
    if not Call.objects.live().filter(pk=call_id).exists():
        return
    now = timezone.now()
    defer(
        "telephony.voice.tasks.close_call",
        at=now + tasks.CLOSE_AFTER,
        only_one=f"close_call {call_id}",
        call_id=call_id,
        ended_at=now.isoformat(),
    )


def _secrets(account: Account) -> list[str]:
    return WebhookSecret.objects.get(account=account).secrets(timezone.now())
