"""Derives an account's status from its Stripe subscriptions. Pure: JSON in, a standing out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accounts.models import Account
from billing.plan import is_base_price

Subscription = Mapping[str, Any]

CHECKOUT = "checkout"
"""The metadata that marks subscriptions from our checkout."""

_PAID = frozenset({"active", "trialing"})
_OWED = frozenset({"past_due", "unpaid", "paused"})
LIVE = _PAID | _OWED


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's billing status, and the subscription behind it, if any."""

    status: str = Account.Status.INACTIVE
    subscription_id: str = ""
    subscription_status: str = ""


def standing_of(subscriptions: Iterable[Subscription]) -> Standing:
    """Return the standing from the best subscription that contains our base price.

    Active and trialing subscriptions make the account active; past due, unpaid and paused ones
    suspend it; all others (incomplete, canceled, …) leave it inactive. Of equals, the oldest wins.
    """
    ours = [subscription for subscription in subscriptions if has_base_price(subscription)]
    if not ours:
        return Standing()
    best = min(ours, key=lambda s: (_rank(s), s["created"], s["id"]))
    return Standing(_STATUS[_rank(best)], best["id"], best["status"])


def doubles_of(subscriptions: Iterable[Subscription]) -> Sequence[Subscription]:
    """Return the paid subscriptions besides the oldest paid one, oldest first.

    Only subscriptions from our checkout count: an operator sets up others in Stripe on purpose.
    """
    paid = [s for s in subscriptions if s["status"] in _PAID and has_base_price(s)]
    oldest_first = sorted(paid, key=lambda s: (s["created"], _is_from_checkout(s), s["id"]))
    return [s for s in oldest_first[1:] if _is_from_checkout(s)]


def _is_from_checkout(subscription: Subscription) -> bool:
    return CHECKOUT in (subscription.get("metadata") or {})


def has_base_price(subscription: Subscription) -> bool:
    return any(is_base_price(item["price"]) for item in subscription["items"]["data"])


_STATUS = (Account.Status.ACTIVE, Account.Status.SUSPENDED, Account.Status.INACTIVE)


def _rank(subscription: Subscription) -> int:
    """Return the index in ``_STATUS`` for the subscription."""
    status = subscription["status"]
    return 0 if status in _PAID else 1 if status in _OWED else 2
