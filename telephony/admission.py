"""Whether an account may have one more call: one rule and one lock for every kind of call.

Two counts, so that one cannot use up the other:

- **places**: calls that are connected, that hold an unused ticket, or that the account has placed.
  An account has ``MAX_CONCURRENT_CALLS`` of them.
- **unverified rings**: anybody who knows a number can send a webhook for it, and only with the
  backend's answer can it be told whether Twilio sent it. A number has ``MAX_UNVERIFIED_RINGS`` of
  them at a time, and each lasts ``RING_LASTS`` at most. One that is bound to a Twilio account has
  as many as its account may have calls: who does not know that account's SID is refused before.
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

# Twilio gives a webhook 15 seconds in all, and onCallStart takes 10 of them at most.
RING_LASTS = timedelta(seconds=20)


class NotAdmitted(ApiError):
    """The account may not have the call. ``why`` is the word for it in the call's timeline."""

    def __init__(self, status: int, code: str, message: str, *, why: str = "") -> None:
        super().__init__(status, code, message)
        self.why = why or code

    @property
    def word(self) -> str:
        """What the caller hears, in TwiML's words: busy if it may work in a minute."""
        return "busy" if self.code == "too_many_calls" else "rejected"


def account_lock(account_id: str) -> Account:
    """Return the account as it is now; others who decide about its calls wait until we commit.

    Take this lock before that of a call.
    """
    return Account.objects.select_for_update(no_key=True).get(pk=account_id)


def admission_require(account: Account, *, besides: Call | None = None) -> None:
    """Raise :class:`NotAdmitted` unless the account, which is locked, may have one more call.

    402 ``payment_required`` and ``spending_limit_reached``, 403 ``account_suspended`` and
    ``account_disabled``, 429 ``too_many_calls``.

    :param besides: the call that asks, if it is written down already.
    """
    standing_require(account)
    _spending_require(account)
    _place_require(account, besides=besides)


def admission_confirm(account: Account, call: Call) -> None:
    """Raise :class:`NotAdmitted` unless the account, which is locked, may still have the call.

    It was admitted before its backend was asked. The spending limit holds back new calls alone.
    """
    standing_require(account)
    _place_require(account, besides=call)


def standing_require(account: Account) -> None:
    """Raise :class:`NotAdmitted` unless the account is active.

    What that is, ``require_active`` says, to the API's permissions too. They refuse early; what
    counts is the answer under the lock.
    """
    if not account.is_active:
        raise NotAdmitted(403, "account_disabled", "This account is disabled: contact support.")
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
            f"This account has spent its limit of ${spending.limit} for this month: raise the "
            "limit, or wait for the next month (UTC).",
        )


def _place_require(account: Account, *, besides: Call | None) -> None:
    places = Call.objects.of(account).live().with_a_place(timezone.now())
    if besides is not None:
        places = places.exclude(pk=besides.pk)
    if places.count() >= settings.MAX_CONCURRENT_CALLS:
        raise NotAdmitted(
            429,
            "too_many_calls",
            f"This account has {settings.MAX_CONCURRENT_CALLS} calls, the most it may have at a "
            "time: try again when one has ended.",
        )


def has_room_for_a_ring(number: PhoneNumber) -> bool:
    """Whether the number, whose account is locked, may ring once more before that is verified."""
    rings = Call.objects.filter(account_id=number.account_id).live()
    waiting = rings.unverified_rings(timezone.now()).filter(called_number=number.phone_number)
    is_bound = number.twilio_account_sid != ""
    most = settings.MAX_CONCURRENT_CALLS if is_bound else settings.MAX_UNVERIFIED_RINGS
    return waiting.count() < most
