"""Customers: creation, payment methods, and deletion."""

from __future__ import annotations

from typing import Any

from sandbox.payments.business import cards, standing, subscribing
from sandbox.payments.business.cards import Card
from sandbox.payments.ids import new_id, random_text
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change
from sandbox.payments.objects import create as create_object


def create(**fields: Any) -> StripeObject:
    id = new_id("customer")
    return create_object(
        "customer",
        "customer.created",
        id=id,
        customer_id=id,
        invoice_prefix=random_text(8).upper(),
        **fields,
    )


def delete(customer: StripeObject) -> None:
    """Delete the customer and end their subscriptions; the stub that remains says so."""
    for subscription in subscribing.live_of(customer.id):
        subscribing.cancel(subscription)
    change(customer, "customer.deleted")
    customer.body = {"id": customer.id, "object": "customer", "deleted": True}
    customer.is_deleted = True
    customer.save(update_fields=["body", "is_deleted"])


def set_card(customer: StripeObject, card: Card) -> StripeObject:
    """Make a card pay a customer's subscriptions and invoices from now on; raise Refusal."""
    method = cards.attach(card, customer)
    settings = customer["invoice_settings"] | {"default_payment_method": method.id}
    change(customer, "customer.updated", invoice_settings=settings)
    for subscription in subscribing.live_of(customer.id):
        standing.update(
            subscription, "customer.subscription.updated", default_payment_method=method.id
        )
    return method
