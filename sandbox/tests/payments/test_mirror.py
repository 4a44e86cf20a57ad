"""dj-stripe mirrors what the stand-in has, with its own requests."""

from __future__ import annotations

import pytest
import stripe
from djstripe import models as mirror

from sandbox.payments import testing
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db


def test_customer(subscribed: str) -> None:
    testing.set_card(subscribed, testing.GOOD_CARD)
    mirrored = mirror.Customer.sync_from_stripe_data(stripe.Customer.retrieve(subscribed))
    assert mirrored.email == "alice@example.org"
    assert mirrored.default_payment_method.stripe_data["card"]["last4"] == "4242"
    again = mirror.Customer.sync_from_stripe_data(
        stripe.Customer.retrieve(subscribed, expand=["invoice_settings.default_payment_method"])
    )
    assert again.default_payment_method == mirrored.default_payment_method


def test_product_and_prices(shop: Shop) -> None:
    base = mirror.Price.sync_from_stripe_data(stripe.Price.retrieve(shop.base))
    minute = mirror.Price.sync_from_stripe_data(stripe.Price.retrieve(shop.minute))
    assert base.product == minute.product
    assert base.product.name == "Switchhook"
    assert minute.recurring["meter"] == shop.meter


def test_subscription(subscribed: str, shop: Shop) -> None:
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


def test_invoice(shop: Shop, subscribed: str) -> None:
    shop.use(subscribed, 7, "CA1")
    testing.turn_to_renewal(subscribed)
    id = testing.invoices_of(subscribed)[-1]["id"]
    mirrored = mirror.Invoice.sync_from_stripe_data(
        stripe.Invoice.retrieve(id, expand=["discounts", "lines.data.discounts"])
    )
    assert mirrored.customer.id == subscribed
    assert mirrored.stripe_data["status"] == "paid"
    assert {line.stripe_data["amount"] for line in mirror.LineItem.objects.all()} == {500, 35}


def test_payment_method(customer: str) -> None:
    method = stripe.PaymentMethod.attach("pm_card_visa", customer=customer)
    mirrored = mirror.PaymentMethod.sync_from_stripe_data(method)
    assert (mirrored.customer.id, mirrored.type) == (customer, "card")


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (stripe.PaymentIntent, mirror.PaymentIntent),
        (stripe.Charge, mirror.Charge),
    ],
)
def test_payments(subscribed: str, kind: type, model: type) -> None:
    [found] = kind.list(customer=subscribed)  # type: ignore[attr-defined]
    mirrored = model.sync_from_stripe_data(found)  # type: ignore[attr-defined]
    assert mirrored.customer.id == subscribed
    assert mirrored.stripe_data["amount"] == 500


def test_refund(subscribed: str) -> None:
    [charge] = stripe.Charge.list(customer=subscribed)
    refund = stripe.Refund.create(charge=charge.id)
    mirrored = mirror.Refund.sync_from_stripe_data(refund)
    assert mirrored.charge.id == charge.id


def test_setup_intent(subscribed: str) -> None:
    testing.set_card(subscribed, testing.GOOD_CARD)
    [found] = stripe.SetupIntent.list(customer=subscribed)
    assert mirror.SetupIntent.sync_from_stripe_data(found).customer.id == subscribed


def test_checkout_session(shop: Shop, customer: str) -> None:
    session = shop.checkout(customer)
    testing.pay(session.id)
    mirrored = mirror.Session.sync_from_stripe_data(stripe.checkout.Session.retrieve(session.id))
    assert mirrored.customer.id == customer
    assert mirrored.subscription.status == "active"


def test_webhook_endpoint() -> None:
    made = stripe.WebhookEndpoint.create(
        url="https://shop.example.org/stripe", enabled_events=["*"]
    )
    mirrored = mirror.WebhookEndpoint.sync_from_stripe_data(made)
    assert (mirrored.url, mirrored.secret) == ("https://shop.example.org/stripe", made.secret)
    mirror.WebhookEndpoint.sync_from_stripe_data(stripe.WebhookEndpoint.retrieve(made.id))
    mirrored.refresh_from_db()
    assert mirrored.secret == made.secret


def test_event(subscribed: str) -> None:
    [event] = stripe.Event.list(type="checkout.session.completed")
    mirrored = mirror.Event.sync_from_stripe_data(event)
    assert mirrored.type == "checkout.session.completed"


def test_account() -> None:
    mirrored = mirror.Account.sync_from_stripe_data(stripe.Account.retrieve())
    assert mirrored.id == stripe.Account.retrieve().id


@pytest.mark.parametrize(
    "model", [mirror.Customer, mirror.Subscription, mirror.Invoice, mirror.Price, mirror.Product]
)
def test_everything_of_a_kind(subscribed: str, model: type) -> None:
    """``api_list`` and what it expands, as ``djstripe_sync_models`` uses them."""
    found = list(model.api_list())  # type: ignore[attr-defined]
    for each in found:
        model.sync_from_stripe_data(each)  # type: ignore[attr-defined]
    assert found
    assert model.objects.count() == len(found)  # type: ignore[attr-defined]
