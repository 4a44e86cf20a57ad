"""What there is to do until the first call has succeeded."""

from __future__ import annotations

from dataclasses import dataclass

from accounts.models import Account
from telephony.call_sids import TEST_PREFIX
from telephony.models import Call


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    title: str
    done: bool
    is_next: bool = False


def checklist_of(account: Account) -> list[Step]:
    """Return the steps in their order; the first that is not done is the next one.

    That a number is pointed here is known from the first call to it: Twilio has asked us about it,
    unless it was a test call.
    """
    inbound = Call.objects.of(account).filter(direction=Call.Direction.INBOUND)
    asked_about = inbound.exclude(call_sid__startswith=TEST_PREFIX)
    # In an index's order: PostgreSQL would look for any one in the calls of all accounts.
    newest = asked_about.order_by("-created_at", "-id").values_list("id", flat=True)
    done = {
        "pay": account.status == Account.Status.ACTIVE,
        "key": account.api_keys.active().exists(),
        "number": account.phone_numbers.exists(),
        "twilio": newest.first() is not None,
        "call": False,  # there would be no list any more
    }
    upcoming = next(name for name, is_done in done.items() if not is_done)
    return [
        Step(name, _TITLES[name], is_done, is_next=name == upcoming)
        for name, is_done in done.items()
    ]


_TITLES = {
    "pay": "Pay",
    "key": "Make an API key",
    "number": "Register a number",
    "twilio": "Point Twilio here",
    "call": "Make a test call",
}
