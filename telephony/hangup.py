"""Hangs up calls on request."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account
from core.errors import ApiError
from core.sweeps import each_alone
from telephony.engine.codes import EventKind
from telephony.models import Call
from telephony.services import call_leave_alone, call_note


@transaction.atomic
def call_request_hangup(*, call_id: str) -> Call:
    """Request that the holder of a call end it; return the call. Repeating this changes nothing.

    The engine checks for this during the call, and when an outbound call is answered. Raises 409
    ``call_already_ended``.
    """
    call = Call.objects.select_for_update().get(pk=call_id)
    if call.ended_at is not None:
        raise ApiError(409, "call_already_ended", "This call has already ended.")
    if call.hangup_requested_at is None:
        call.hangup_requested_at = timezone.now()
        call.save(update_fields=["hangup_requested_at"])
        call_note(call, EventKind.HANGUP_REQUESTED, at=call.hangup_requested_at)
    return call


@transaction.atomic
def calls_request_hangup(*, account: Account) -> int:
    """Request the end of all the account's calls in progress; return how many."""
    live = list(Call.objects.of(account).live().values_list("pk", flat=True))
    for call_id in live:
        _request(call_id)
    return len(live)


def calls_of_nobody_request_hangup(*, at_most: int = 1000) -> int:
    """Request the end of calls whose account has lost its subscription; return how many.

    The subscription was cancelled, or the account deleted, during the call: nobody pays for the
    rest.
    """
    nobodys = Q(account__status=Account.Status.INACTIVE) | Q(account__closed_at__isnull=False)
    unasked = Call.objects.live().to_be_swept(timezone.now())
    unasked = unasked.filter(nobodys, hangup_requested_at=None)
    call_ids = list(unasked.values_list("pk", flat=True)[:at_most])
    return each_alone(
        call_ids,
        _request,
        what="hang-up of a call",
        logged_as="call_id",
        back_off=call_leave_alone,
    )


def _request(call_id: str) -> bool:
    """Request the end of a call; return False if it has ended meanwhile."""
    try:
        call_request_hangup(call_id=call_id)
    except ApiError:
        return False
    return True
