"""What tests of billing begin with: accounts that subscribe, and ways in which that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stripe

from accounts.models import Account
from billing.checkout import checkout_open
from billing.models import StatusCheck, StripeCustomer
from billing.status_checks import status_check
from billing.tests.memory import Killed, MemoryStripe


def subscribe(account: Account, memory: MemoryStripe, **fields: Any) -> dict[str, Any]:
    """Let an inactive account check out and pay; return the subscription."""
    checkout_open(account=account)
    subscription = memory.pay(StripeCustomer.objects.get(account=account).checkout_id, **fields)
    check(account)
    return subscription


def check(account: Account) -> None:
    StatusCheck.objects.filter(account=account).mark("test")
    status_check(account.id)
    account.refresh_from_db()


def down(method: str, path: str) -> None:
    """Stripe cannot be reached."""
    raise stripe.APIConnectionError("Network is unreachable")


def kill_at(number: int) -> Callable[[str, str], None]:
    """Return what kills the process when it is called for the ``number``-th time, from 0."""
    calls = iter(range(number + 1))

    def kill(method: str, path: str) -> None:
        if next(calls, None) == number:
            raise Killed

    return kill
