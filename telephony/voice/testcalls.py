"""A test call: the customer talks to the agent from a browser, past Twilio.

It goes an inbound call's way: the same checks of the account, the same question to the backend, the
same hand-over to the media socket. Only Twilio's part is missing, and what Twilio asks for money.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import monotonic

from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from core.connections import give_connection_back
from core.queue.jobs import defer
from telephony.admission import NotAdmitted
from telephony.call_sids import new_test_sid
from telephony.callbacks.on_call_start import CallStartFailed, ask
from telephony.callbacks.payloads import CallFacts
from telephony.durations import ms_since
from telephony.engine.codes import EventKind
from telephony.engine.plan import CallPlan, Refusal, Transfer
from telephony.models import Call, PhoneNumber
from telephony.voice import transactions
from telephony.voice.handover import VALID_FOR
from telephony.voice.transactions import PendingCall


@dataclass(frozen=True, slots=True)
class Connect:
    """The browser may open the media socket, with what Twilio would have got."""

    call: Call
    ticket: str = field(repr=False)
    account_sid: str
    greeting_url: str = ""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The account may not take the call now; ``why`` is that of the call's timeline."""

    call: Call | None
    why: str


@dataclass(frozen=True, slots=True)
class NoUsableAnswer:
    """The backend gave no answer that can be used; onError tells it too."""

    call: Call
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The backend had the call refused, or put through."""

    call: Call
    decision: Refusal | Transfer


Start = Connect | NotTaken | NoUsableAnswer | Decided


@sensitive_variables()
def call_test_start(*, number: PhoneNumber, caller: str) -> Start:
    """Ring a number of the account's from a browser; wait for its backend 10 seconds at most."""
    if not number.is_active:
        return NotTaken(None, "number_inactive")
    call_sid = new_test_sid()
    received = transactions.receive_on(number, call_sid=call_sid, caller=caller)
    if not isinstance(received, PendingCall):
        return _not_taken(Call.objects.filter(call_sid=call_sid).first())
    return _decide(received)


def _not_taken(call: Call | None) -> NotTaken:
    """Say why; without a call there were too many rings at once to write this one down."""
    event = call.events.filter(kind=EventKind.REFUSED).first() if call else None
    return NotTaken(call, event.detail["why"] if event else "too_many_calls")


@sensitive_variables()
def _decide(received: PendingCall) -> Start:
    call = received.call
    facts = CallFacts.of(call)
    give_connection_back()
    began = monotonic()
    try:
        decision = async_to_sync(ask)(
            call.on_call_start_url, facts, secrets=received.secrets, message_id=f"msg_{call.id}"
        )
    except CallStartFailed as failure:
        transactions.fail(call, (failure.code, failure.message), asked_ms=ms_since(began))
        return NoUsableAnswer(call, failure.code, failure.message)
    asked_ms = ms_since(began)
    match decision:
        case Refusal():
            transactions.refuse(call, decision.reason, asked_ms=asked_ms)
            return Decided(call, decision)
        case Transfer():
            transactions.transfer(call, decision.to, asked_ms=asked_ms)
            return Decided(call, decision)
        case CallPlan():
            return _accept(call, decision, asked_ms)


@sensitive_variables()
def _accept(call: Call, plan: CallPlan, asked_ms: int) -> Start:
    try:
        return _let_in(call, plan, asked_ms)
    except NotAdmitted as refusal:
        transactions.turn_away(call, refusal)
        return NotTaken(call, refusal.why)


@sensitive_variables()
@transaction.atomic
def _let_in(call: Call, plan: CallPlan, asked_ms: int) -> Start:
    ticket = transactions.accept(call, replace(plan, is_test=True), asked_ms=asked_ms)
    if ticket is None:
        return NotTaken(call, "hung_up")
    # Nobody tells us of a browser that never comes.
    defer(
        "telephony.voice.tasks.close_unconnected",
        at=timezone.now() + VALID_FOR,
        call_id=call.id,
    )
    return Connect(call, ticket, plan.twilio_account_sid, plan.greeting_url)
