"""One subscription per account: what to do about a second one.

A second checkout is prevented (``billing.checkout``), but for a page that stayed open while the
account was subscribed in another way. Two subscriptions would charge every minute twice, so the
newer one ends, and what it took is given back.
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
    """Refund a subscription's payment and cancel it; killed in between, it can be done again.

    Raises 502 ``payments_unavailable``.
    """
    with asking():
        # In this order: one that is cancelled already is not looked for any more.
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
