"""The steps to an account's first successful call."""

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
    """Return the steps in order. The first one that is not done is the next one.

    The first inbound call that is not a test call shows that Twilio points to Switchhook.
    """
    inbound = Call.objects.of(account).filter(direction=Call.Direction.INBOUND)
    asked_about = inbound.exclude(call_sid__startswith=TEST_PREFIX)
    # Ordered as the index is: otherwise PostgreSQL scans the calls of all accounts.
    newest = asked_about.order_by("-created_at", "-id").values_list("id", flat=True)
    done = {
        "pay": account.status == Account.Status.ACTIVE,
        "key": account.api_keys.active().exists(),
        "number": account.phone_numbers.exists(),
        "twilio": newest.first() is not None,
        "call": False,  # the list is gone by then
    }
    upcoming = next(name for name, is_done in done.items() if not is_done)
    return [
        Step(name, _TITLES[name], is_done, is_next=name == upcoming)
        for name, is_done in done.items()
    ]


_TITLES = {
    "pay": "Pay",
    "key": "Create an API key",
    "number": "Register a number",
    "twilio": "Connect Twilio",
    "call": "Make a test call",
}
