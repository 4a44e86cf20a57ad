"""Terms of payment for minutes, from subscriptions that the last status check mirrored."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import structlog
from djstripe import models as mirror

from billing.metering.periods import Term, terms_of

log = structlog.get_logger(__name__)


def terms_by_customer(customer_ids: Collection[str], meter_id: str) -> dict[str, tuple[Term, ...]]:
    """Return the terms of each customer, with one query.

    A customer with an unreadable subscription is left out and logged.
    """
    subscriptions: dict[str, list[dict[str, Any]]] = {id: [] for id in customer_ids}
    rows = mirror.Subscription.objects.filter(customer_id__in=customer_ids)
    for customer_id, data in rows.values_list("customer_id", "stripe_data"):
        subscriptions[customer_id].append(data)
    terms = {}
    for id, of_customer in subscriptions.items():
        try:
            terms[id] = terms_of(of_customer, meter_id)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            log.error("subscription_unreadable", customer_id=id, error=type(error).__name__)
    return terms
