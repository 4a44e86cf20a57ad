"""Calls that a customer places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts.models import Account
from core.connections import give_connection_back
from core.errors import ApiError, invalid
from core.observers import tell
from telephony import links
from telephony.admission import account_lock, admission_require
from telephony.call_log import bind_call
from telephony.call_search import metadata_index
from telephony.engine.codes import CallProblem, EndedReason, EventKind
from telephony.facts import CallStarted
from telephony.idempotency import RequestKey
from telephony.models import UNCONNECTED_LASTS, Call, IdempotencyKey, PhoneNumber
from telephony.numbering import call_problem, kind_problem
from telephony.services import call_end, call_note
from telephony.twilio_rest import (
    CarrierRejected,
    CarrierUnavailable,
    TwilioCredentials,
    place_call,
)

DEFAULT_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Dialing:
    """The parameters with which Twilio places a call. The credentials are used and not stored."""

    credentials: TwilioCredentials
    timeout: int = DEFAULT_TIMEOUT_SECONDS
    machine_detection: str = ""


class NotPlaced(ApiError):
    """Twilio did not place a recorded call, as far as we know.

    400 ``carrier_rejected`` or 502 ``carrier_unavailable``.
    """


@transaction.atomic
def outbound_call_queue(
    *,
    account: Account,
    to: str,
    from_number: str,
    on_call_start_url: str,
    on_call_end_url: str,
    on_error_url: str = "",
    metadata: Any = None,
    request_key: RequestKey | None = None,
) -> tuple[Call, IdempotencyKey | None]:
    """Record a call, if the account may place it now.

    If the key was used before, nothing is written: return the call of the earlier request, and the
    row of that request. Raises 409 as :meth:`RequestKey.earlier`; 400 ``country_not_allowed``,
    ``number_not_allowed`` and ``same_number``; 403 ``phone_number_not_owned``; and
    :class:`NotAdmitted`.
    """
    _check_numbers(to, from_number)
    account = account_lock(account.pk)
    if request_key and (earlier := request_key.earlier()):
        return earlier.call, earlier
    _require_own(account, from_number)
    admission_require(account)
    call = Call.objects.create(
        account=account,
        direction=Call.Direction.OUTBOUND,
        status=Call.Status.QUEUED,
        caller_phone=from_number,
        called_number=to,
        metadata=metadata,
        on_call_start_url=on_call_start_url,
        on_call_end_url=on_call_end_url,
        on_error_url=on_error_url,
        held_until=timezone.now() + UNCONNECTED_LASTS,
    )
    if metadata is not None:
        metadata_index(call)
    if request_key:
        request_key.use_for(call)
    transaction.on_commit(partial(tell, CallStarted(call)))
    return call, None


@sensitive_variables("dialing")
def outbound_call_dial(call: Call, dialing: Dialing) -> Call:
    """Have Twilio place a queued call; return the call, or raise :class:`NotPlaced`."""
    bind_call(call)
    give_connection_back()
    try:
        call.call_sid = place_call(
            dialing.credentials,
            to=call.called_number,
            from_number=call.caller_phone,
            url=links.outbound_url(call.id),
            status_url=links.status_url(call.id),
            timeout=dialing.timeout,
            machine_detection=dialing.machine_detection,
        )
    except CarrierRejected as refusal:
        raise _rejected(call, refusal) from None
    except CarrierUnavailable as failure:
        raise _unavailable(call, failure) from None
    bind_call(call)
    outbound_call_taken(call_id=call.id, call_sid=call.call_sid)
    return call


def outbound_call_outcome(call: Call) -> Call:
    """Return the call if Twilio is known to have accepted it, or raise :class:`NotPlaced`.

    For a retry after the process that placed the call has died.
    """
    if call.call_sid:
        return call
    if refusal := call.events.filter(kind=EventKind.CARRIER_REJECTED).first():
        raise _refused(CarrierRejected(**refusal.detail))
    raise _perhaps_placed(call)


@transaction.atomic
def outbound_call_taken(*, call_id: str, call_sid: str) -> None:
    """Record that Twilio has accepted an outbound call, unless that is recorded already.

    Twilio's response to us and its first callback both say so, in either order, and the call may
    have ended by then. So every handler of either calls this first.
    """
    calls = Call.objects.filter(pk=call_id, call_sid=None)
    if calls.update(call_sid=call_sid, accepted_at=timezone.now()):
        call_note(Call.objects.get(pk=call_id), EventKind.PLACED)


def _check_numbers(to: str, from_number: str) -> None:
    for field, problem in (("to", call_problem(to)), ("from", kind_problem(from_number))):
        if problem:
            raise invalid({field: [problem.message]}, problem.code)
    if to == from_number:
        message = "Use a number that differs from the one in from. A number cannot call itself."
        raise invalid({"to": [message]}, "same_number")


def _require_own(account: Account, from_number: str) -> None:
    own = PhoneNumber.objects.of(account).filter(phone_number=from_number, is_active=True)
    if not own.exists():
        raise ApiError(
            403,
            "phone_number_not_owned",
            f"{from_number} is not an active number of this account. Register it first.",
        )


@transaction.atomic
def _rejected(call: Call, refusal: CarrierRejected) -> NotPlaced:
    """End a call that Twilio refused."""
    call_note(call, EventKind.CARRIER_REJECTED, code=refusal.code, message=refusal.message)
    _end_unplaced(call, CallProblem.CARRIER_REJECTED)
    return _refused(refusal)


@transaction.atomic
def _unavailable(call: Call, failure: CarrierUnavailable) -> NotPlaced:
    """End a call that never reached Twilio.

    A call that may have reached it stays queued. If Twilio placed it, its callbacks continue the
    call as if the response had arrived. If not, it is ended with the stale calls.
    """
    call_note(call, EventKind.CARRIER_UNAVAILABLE, reason=str(failure))
    if failure.was_sent:
        return _perhaps_placed(call)
    _end_unplaced(call, CallProblem.CARRIER_UNAVAILABLE)
    message = "Twilio could not be reached, so no call was placed. Try again in a minute."
    return NotPlaced(502, "carrier_unavailable", message)


def _end_unplaced(call: Call, problem: CallProblem) -> None:
    call_end(call_id=call.id, status=Call.Status.FAILED, reason=EndedReason.FAILED, problem=problem)


def _refused(refusal: CarrierRejected) -> NotPlaced:
    return NotPlaced(400, "carrier_rejected", f"Twilio refused the call: {refusal}")


def _perhaps_placed(call: Call) -> NotPlaced:
    message = (
        "Twilio sent no usable response, and may have placed the call. Check "
        f"GET /api/calls/{call.id} before you retry."
    )
    return NotPlaced(502, "carrier_unavailable", message)
