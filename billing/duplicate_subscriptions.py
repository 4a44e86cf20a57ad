"""Cancels duplicate subscriptions: an account has one.

``billing.checkout`` prevents a second checkout, unless a page stayed open while the account was
subscribed in another way. Two subscriptions would charge every minute twice, so the newer one is
canceled and refunded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stripe
import structlog

from billing.refunds import invoice_refund
from billing.stripe_api import asking, is_missing

log = structlog.get_logger(__name__)


def double_checkout_undo(subscription: Mapping[str, Any]) -> None:
    """Refund a subscription's payment and cancel it. Safe to repeat after a crash.

    Raises 502 ``payments_unavailable``.
    """
    with asking():
        # In this order: a canceled subscription is not found again.
        if subscription["latest_invoice"]:
            invoice_refund(subscription["latest_invoice"], reason="duplicate")
        try:
            stripe.Subscription.cancel(subscription["id"])
        except stripe.InvalidRequestError as error:
            if not is_missing(error):
                raise
    log.warning(
        "double_checkout_undone",
        subscription_id=subscription["id"],
        customer_id=subscription["customer"],
    )
