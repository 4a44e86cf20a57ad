"""dj-stripe mirrors the stand-in's objects, with its own requests."""

from __future__ import annotations

import pytest
import stripe
from djstripe import models as mirror

from sandbox.payments import testing
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db


def test_customer(subscribed: str) -> None:
    testing.set_card(subscribed, testing.GOOD_CARD)
    mirrored = mirror.Customer.sync_from_stripe_data(
        stripe.Customer.retrieve(subscribed, expand=["invoice_settings.default_payment_method"])
    )
    assert mirrored.email == "alice@example.org"
    assert mirrored.default_payment_method.stripe_data["card"]["last4"] == "4242"


def test_product_and_prices(shop: Shop) -> None:
    minute, base = map(mirror.Price.sync_from_stripe_data, stripe.Price.list())
    assert base.product == minute.product
    assert base.product.name == "Switchhook"
    assert minute.recurring["meter"] == shop.meter


def test_subscription(subscribed: str, shop: Shop) -> None:
    mirror.Customer.sync_from_stripe_data(stripe.Customer.retrieve(subscribed))
    id = testing.subscription_of(subscribed)["id"]
    mirrored = mirror.Subscription.sync_from_stripe_data(stripe.Subscription.retrieve(id))
    assert (mirrored.customer.id, mirrored.status) == (subscribed, "active")
    assert [item.stripe_data["price"]["id"] for item in mirrored.items.order_by("id")] == [
        item["price"]["id"]
        for item in sorted(
            testing.subscription_of(subscribed)["items"]["data"], key=lambda item: item["id"]
        )
    ]
    testing.cancel(subscribed)
    mirrored = mirror.Subscription.sync_from_stripe_data(stripe.Subscription.retrieve(id))
    assert mirrored.status == "canceled"
