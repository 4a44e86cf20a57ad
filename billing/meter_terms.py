"""Who pays for minutes and when, from what was mirrored when an account's status was settled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from djstripe import models as mirror

from billing.meter_periods import Term, terms_of


def terms_by_customer(customer_ids: Collection[str], meter_id: str) -> dict[str, tuple[Term, ...]]:
    """Return the terms of each customer, with one query."""
    subscriptions: dict[str, list[dict[str, Any]]] = {id: [] for id in customer_ids}
    rows = mirror.Subscription.objects.filter(customer_id__in=customer_ids)
    for customer_id, data in rows.values_list("customer_id", "stripe_data"):
        subscriptions[customer_id].append(data)
    return {id: terms_of(of_customer, meter_id) for id, of_customer in subscriptions.items()}
