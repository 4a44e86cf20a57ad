"""Set-up for billing's tests: accounts that subscribe, and ways in which that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stripe

from accounts.models import Account
from billing.checkout import checkout_open
from billing.models import StatusCheck, StripeCustomer
from billing.status_checks import status_check
from billing.tests.watched import Killed, Request, Thing, WatchedStripe


def subscribe(account: Account, watched: WatchedStripe, **fields: Any) -> Thing:
    """Let an inactive account check out and pay; return the subscription."""
    checkout_open(account=account)
    subscription = watched.pay(StripeCustomer.objects.get(account=account).checkout_id, **fields)
    check(account)
    return subscription


def check(account: Account) -> None:
    StatusCheck.objects.filter(account=account).mark("test")
    status_check(account.id)
    account.refresh_from_db()


def down(request: Request) -> None:
    """Stripe cannot be reached."""
    raise stripe.APIConnectionError("Network is unreachable")


def kill_at(number: int) -> Callable[[Request], None]:
    """Return what kills the process when it is called for the ``number``-th time, from 0."""
    calls = iter(range(number + 1))

    def kill(request: Request) -> None:
        if next(calls, None) == number:
            raise Killed

    return kill
