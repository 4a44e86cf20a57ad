"""Customers: how they begin, and what ends with them."""

from __future__ import annotations

from typing import Any

from sandbox.payments.business import cards
from sandbox.payments.ids import new_id, random_text
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change
from sandbox.payments.objects import create as create_object


def create(**fields: Any) -> StripeObject:
    id = new_id("customer")
    blank: dict[str, Any] = {
        "address": None,
        "balance": 0,
        "business_name": None,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "individual_name": None,
        "invoice_prefix": random_text(8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
    return create_object("customer", "customer.created", id=id, customer_id=id, **blank | fields)


def delete(customer: StripeObject) -> StripeObject:
    """End the customer's subscriptions and give up its cards; what is left says that it is gone."""
    from sandbox.payments.business import subscribing

    for subscription in subscribing.live_of(customer.id):
        subscribing.cancel(subscription)
    for method in cards.methods_of(customer.id):
        cards.detach(method)
    change(customer, "customer.deleted")
    customer.body = {"id": customer.id, "object": "customer", "deleted": True}
    customer.is_deleted = True
    customer.save(update_fields=["body", "is_deleted"])
    return customer


def set_default_method(customer: StripeObject, method_id: str | None) -> None:
    """Have the customer's invoices paid with this card from now on."""
    settings = customer["invoice_settings"] | {"default_payment_method": method_id}
    change(customer, "customer.updated", invoice_settings=settings)
