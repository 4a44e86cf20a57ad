"""A customer's status, for the portal and the control page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from sandbox.payments.business import cards, subscribing
from sandbox.payments.business.periods import period_of
from sandbox.payments.models import StripeObject
from sandbox.payments.pages.common import product_name
from sandbox.payments.wire.errors import Refusal

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Overview:
    customer: Body
    subscription: Body | None
    items: list[Body]
    period_end: int | None
    next_invoice: Body | None
    card: Body | None
    invoices: list[Body]

    @property
    def due(self) -> list[Body]:
        """Return the invoices that need a payment by hand, since charging the card failed."""
        return [each for each in self.invoices if each["status"] == "open" and each["attempted"]]

    @classmethod
    def of(cls, customer: StripeObject) -> Self:
        """Return it for the current subscription, or else for the last one."""
        every = StripeObject.objects.of("subscription").filter(customer_id=customer.id)
        subscription = subscribing.live_of(customer.id).first() or every.order_by("-serial").first()
        invoices = StripeObject.objects.of("invoice").filter(customer_id=customer.id)
        method = cards.method_of(customer, subscription)
        return cls(
            customer=customer.body,
            subscription=subscription.body if subscription else None,
            items=_items(subscription),
            period_end=period_of(subscription.body).end if subscription else None,
            next_invoice=_next_invoice(customer),
            card=method["card"] if method else None,
            invoices=[invoice.body for invoice in invoices.order_by("-serial")[:24]],
        )


def _items(subscription: StripeObject | None) -> list[Body]:
    if subscription is None:
        return []
    return [item | {"name": product_name(item)} for item in subscription["items"]["data"]]


def _next_invoice(customer: StripeObject) -> Body | None:
    try:
        invoice = subscribing.preview_for(customer.id)
    except Refusal:
        return None
    return invoice if invoice["lines"]["data"] else None
