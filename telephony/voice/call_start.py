"""The start of a call: ask the customer's backend, and carry out its decision.

Twilio's webhooks and test calls both use this module. Each renders the outcome in its own way: as
TwiML, or as part of a page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.views.decorators.debug import sensitive_variables

from core.observers import tell
from telephony.admission import NotAdmitted
from telephony.callbacks.on_call_start import CallStartFailed, ask
from telephony.callbacks.payloads import CallFacts
from telephony.engine.codes import ErrorCode
from telephony.engine.plan import CallPlan, Refusal, Transfer, sid_ending
from telephony.facts import CallStartAsked
from telephony.models import Call
from telephony.trace_ids import new_span, traceparent
from telephony.voice import transactions
from telephony.voice.handover import valid_for
from telephony.voice.transactions import PendingCall, Rejected
from telephony.voice.twilio_form import TwilioForm


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of onCallStart: its HTTP status, if any, and how many milliseconds it took."""

    decision: CallPlan | Refusal | Transfer | CallStartFailed
    asked_ms: int
    status: int | None = None

    def for_timeline(self) -> dict[str, int]:
        status = {} if self.status is None else {"onCallStartStatus": self.status}
        return {"onCallStartMs": self.asked_ms, **status}


@dataclass(frozen=True, slots=True)
class Connect:
    """The media socket may be opened with the ticket while that is valid."""

    call: Call
    ticket: str = field(repr=False)
    valid_for: timedelta
    plan: CallPlan


@dataclass(frozen=True, slots=True)
class Declined:
    """The backend rejected the call: as ``busy`` or ``rejected``, or with a message to speak."""

    call: Call
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Transferred:
    """The backend transferred the call."""

    call: Call
    to: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The backend sent no usable response. onError reports this too."""

    call: Call
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Forged:
    """The webhook is not from Twilio, or not for the account that the backend named.

    ``message`` is for its sender, who may be anybody. The customer is told more.
    """

    message: str


@dataclass(frozen=True, slots=True)
class AlreadyEnded:
    """The call ended while the backend was deciding."""

    call: Call
    why: str = "hung_up"


CallStart = Connect | Declined | Transferred | Failed | Forged | AlreadyEnded | Rejected


@sensitive_variables()
async def ask_backend(pending: PendingCall) -> Answer:
    """Wait for the backend's response, at most 10 seconds. Runs no queries."""
    span = new_span()
    answer = await _ask(pending.call, pending.secrets, span)
    outcome = _outcome_of(answer.decision)
    tell(CallStartAsked(pending.call, outcome, answer.status, answer.asked_ms / 1000, span))
    return answer


@sensitive_variables()
async def _ask(call: Call, secrets: list[str], span: str) -> Answer:
    try:
        asked = await ask(
            call.on_call_start_url,
            CallFacts.of(call),
            secrets=secrets,
            message_id=f"msg_{call.id}",
            traceparent=traceparent(call.id, span),
        )
    except CallStartFailed as failure:
        return Answer(failure, failure.result.duration_ms, failure.result.status)
    return Answer(asked.decision, asked.duration_ms, asked.status)


def _outcome_of(decision: CallPlan | Refusal | Transfer | CallStartFailed) -> str:
    match decision:
        case CallPlan():
            return "accepted"
        case Refusal():
            return "rejected"
        case Transfer():
            return "transferred"
        case CallStartFailed():
            return decision.code


@sensitive_variables()
def carry_out(call: Call, answer: Answer, form: TwilioForm | None) -> CallStart:
    """Carry out the backend's decision on the call.

    :param form: the webhook of the call. Its signature is checked before anything that costs money
        or that the caller hears. None for a test call, whose caller is signed in here.
    """
    decision = answer.decision
    known: dict[str, Any] = {"asked": answer.for_timeline()}
    is_free = isinstance(decision, CallStartFailed) or _is_silent(decision)
    is_recorded = not (form is not None and is_free and transactions.drop_if_many(call))
    if isinstance(decision, CallStartFailed):
        if is_recorded:
            transactions.fail(call, (decision.code, decision.message), decision.result, **known)
        return Failed(call, decision.code, decision.message)
    if isinstance(decision, Refusal) and not is_recorded:
        return Declined(call, decision.reason, decision.message)
    if form is not None and not _is_silent(decision):
        if doubt := _doubt(form, decision):
            transactions.distrust(call, doubt, **known)
            return Forged(_TOLD_SENDER[doubt[0]])
        known |= {"signed_by": form.account_sid}
    if form is None and isinstance(decision, CallPlan):
        decision = decision.as_test()
    return _do(call, decision, known)


def _is_silent(decision: CallPlan | Refusal | Transfer) -> bool:
    """Return True if the call is rejected without a message: that is free, and names no account."""
    return isinstance(decision, Refusal) and not decision.message


_TOLD_SENDER = {
    ErrorCode.ACCOUNT_SID_MISMATCH: "The call came from another Twilio account than expected.",
    ErrorCode.INVALID_TWILIO_SIGNATURE: "X-Twilio-Signature does not match.",
}


def _doubt(
    form: TwilioForm, decision: CallPlan | Refusal | Transfer
) -> tuple[ErrorCode, str] | None:
    """Return why the webhook is not from Twilio, or not for the account that the backend named."""
    if form.account_sid != decision.twilio_account_sid:
        return (
            ErrorCode.ACCOUNT_SID_MISMATCH,
            f"The call came from the Twilio account {sid_ending(form.account_sid)}, but "
            f"onCallStart returned {sid_ending(decision.twilio_account_sid)}. Return the "
            "twilioAccountSid of the account that owns the number.",
        )
    if not form.is_signed_with(decision.twilio_auth_token):
        return (
            ErrorCode.INVALID_TWILIO_SIGNATURE,
            "The signature of Twilio's request does not match your twilioAuthToken.",
        )
    return None


@sensitive_variables()
def _do(call: Call, decision: CallPlan | Refusal | Transfer, known: dict[str, Any]) -> CallStart:
    match decision:
        case Refusal():
            transactions.refuse(call, decision.reason, **known)
            return Declined(call, decision.reason, decision.message)
        case Transfer():
            is_on = transactions.transfer(call, decision.to, **known)
            return Transferred(call, decision.to) if is_on else AlreadyEnded(call)
        case CallPlan():
            return _connect(call, decision, known)


@sensitive_variables()
def _connect(call: Call, plan: CallPlan, known: dict[str, Any]) -> CallStart:
    try:
        ticket = transactions.accept(call, plan, **known)
    except NotAdmitted as refusal:
        return transactions.reject_not_admitted(call, refusal)
    if ticket is None:
        return AlreadyEnded(call)
    return Connect(call, ticket, valid_for(plan), plan)
