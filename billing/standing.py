"""What Stripe's subscriptions make of an account. Pure: Stripe's JSON in, a standing out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accounts.models import Account
from billing.plan import is_base_price

Subscription = Mapping[str, Any]

CHECKOUT = "checkout"
"""The metadata by which a subscription says that one of our checkouts has begun it."""

_PAID = frozenset({"active", "trialing"})
_OWED = frozenset({"past_due", "unpaid", "paused"})
LIVE = _PAID | _OWED


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's billing status, and the subscription that it comes from, if any."""

    status: str = Account.Status.INACTIVE
    subscription_id: str = ""
    subscription_status: str = ""


def standing_of(subscriptions: Iterable[Subscription]) -> Standing:
    """Return what the best subscription gives; only those that contain our base price count.

    Active and trialing ones make the account active; past due, unpaid and paused ones suspend it;
    all others (incomplete, canceled, …) leave it inactive. Of equal ones the oldest counts.
    """
    ours = [subscription for subscription in subscriptions if has_base_price(subscription)]
    if not ours:
        return Standing()
    best = min(ours, key=lambda s: (_rank(s), s["created"], s["id"]))
    return Standing(_STATUS[_rank(best)], best["id"], best["status"])


def doubles_of(subscriptions: Iterable[Subscription]) -> Sequence[Subscription]:
    """Return the subscriptions that are paid for although an older one is, oldest first.

    Only what a checkout has begun is one: whatever an operator has set up at Stripe is meant so.
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
    """Return the index in ``_STATUS`` of what the subscription gives."""
    status = subscription["status"]
    return 0 if status in _PAID else 1 if status in _OWED else 2
