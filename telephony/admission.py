"""Decides whether an account may have one more call, with one lock for every kind of call.

There are two counts, so that one cannot exhaust the other:

- **places**: calls that are connected, that hold an unused ticket, or that the account has placed.
  An account has ``MAX_CONCURRENT_CALLS`` of them.
- **unverified rings**: anybody who knows a number can send a webhook for it, and only the backend's
  response tells whether Twilio sent it. A number has ``MAX_UNVERIFIED_RINGS`` of them at a time,
  each for at most ``RING_LASTS``. A number that is bound to a Twilio account has as many as its
  account may have calls: a sender who does not know that account's SID is refused earlier.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from accounts.models import Account
from accounts.permissions import require_active
from core.errors import ApiError
from telephony.models import Call, PhoneNumber
from usage.spending import spending_of

# Twilio's limit for a webhook is 15 seconds, of which onCallStart takes at most 10.
RING_LASTS = timedelta(seconds=20)


class NotAdmitted(ApiError):
    """The account may not have the call. ``why`` is the reason in the call's timeline."""

    def __init__(self, status: int, code: str, message: str, *, why: str = "") -> None:
        super().__init__(status, code, message)
        self.why = why or code

    @property
    def word(self) -> str:
        """The reason that TwiML gives the caller: busy if a call may succeed in a minute."""
        return "busy" if self.code == "too_many_calls" else "rejected"


def account_lock(account_id: str) -> Account:
    """Return the account's current state. Other transactions that admit its calls wait for ours.

    Take this lock before a call's lock.
    """
    return Account.objects.select_for_update(no_key=True).get(pk=account_id)


def admission_require(account: Account, *, besides: Call | None = None) -> None:
    """Raise :class:`NotAdmitted` unless the locked account may have one more call.

    402 ``payment_required`` and ``spending_limit_reached``, 403 ``account_suspended`` and
    ``account_disabled``, 429 ``too_many_calls``.

    :param besides: the call to be admitted, if it is recorded already.
    """
    standing_require(account)
    _spending_require(account)
    _place_require(account, besides=besides)


def admission_confirm(account: Account, call: Call) -> None:
    """Raise :class:`NotAdmitted` unless the locked account may still have the call.

    It was admitted before its backend was asked. The spending limit stops only new calls.
    """
    standing_require(account)
    _place_require(account, besides=call)


def standing_require(account: Account) -> None:
    """Raise :class:`NotAdmitted` unless the account is active.

    ``require_active`` defines that, for the API's permissions too. Those refuse early; the check
    under the lock decides.
    """
    if not account.is_active:
        raise NotAdmitted(403, "account_disabled", "This account is disabled. Contact support.")
    try:
        require_active(account)
    except ApiError as refusal:
        why = f"account_{account.effective_status.lower()}"
        raise NotAdmitted(refusal.status_code, refusal.code, refusal.message, why=why) from None


def _spending_require(account: Account) -> None:
    if (spending := spending_of(account)).is_reached:
        raise NotAdmitted(
            402,
            "spending_limit_reached",
            f"This account has reached its spending limit of ${spending.limit} for this month. "
            "Raise the limit, or wait for next month (UTC).",
        )


def _place_require(account: Account, *, besides: Call | None) -> None:
    places = Call.objects.of(account).live().with_a_place(timezone.now())
    if besides is not None:
        places = places.exclude(pk=besides.pk)
    if places.count() >= settings.MAX_CONCURRENT_CALLS:
        raise NotAdmitted(
            429,
            "too_many_calls",
            f"This account has reached its limit of {settings.MAX_CONCURRENT_CALLS} concurrent "
            "calls. Try again when one has ended.",
        )


def has_room_for_a_ring(number: PhoneNumber) -> bool:
    """Return True if the number, whose account is locked, may have one more unverified ring."""
    rings = Call.objects.filter(account_id=number.account_id).live()
    waiting = rings.unverified_rings(timezone.now()).filter(called_number=number.phone_number)
    is_bound = number.twilio_account_sid != ""
    most = settings.MAX_CONCURRENT_CALLS if is_bound else settings.MAX_UNVERIFIED_RINGS
    return waiting.count() < most
