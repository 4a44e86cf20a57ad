"""Checkout sessions: created, paid, declined, expired."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from django.conf import settings

from sandbox.payments import testing
from sandbox.payments.wire.errors import Refusal
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db


def test_it_works(shop: Shop, customer: str) -> None:
    made = shop.checkout(
        customer,
        client_reference_id="a1",
        subscription_data={"metadata": {"checkout": "1"}},
    )
    assert made.id.startswith("cs_test_")
    assert made.url == f"{settings.PUBLIC_URL}/sandbox/payments/checkout/{made.id}"
    assert (made.status, made.payment_status, made.amount_total) == ("open", "unpaid", 500)
    assert made.expires_at - made.created == 86_400

    testing.pay(str(made.url))

    paid = stripe.checkout.Session.retrieve(made.id, expand=["subscription.latest_invoice"])
    assert (paid.status, paid.payment_status, paid.url) == ("complete", "paid", None)
    assert paid.client_reference_id == "a1"
    assert paid.customer_details.email == "alice@example.org"
    assert (paid.subscription.status, paid.subscription.customer) == ("active", customer)
    assert paid.subscription.metadata["checkout"] == "1"
    invoice = paid.subscription.latest_invoice
    assert (paid.invoice, invoice.status, invoice.amount_paid) == (invoice.id, "paid", 500)
    assert testing.event_types()[-1] == "checkout.session.completed"


def test_a_declined_card_leaves_nothing_behind(shop: Shop, customer: str) -> None:
    made = shop.checkout(customer)
    before = testing.event_types()
    assert testing.declined(made.id) == "Your card was declined."
    later = testing.LATER_DECLINED_CARD
    assert testing.declined(made.id, later) == "Your card was declined."
    assert testing.subscriptions_of(customer) == []
    assert testing.invoices_of(customer) == []
    assert testing.event_types() == before
    testing.pay(made.id)
    assert testing.subscription_of(customer)["status"] == "active"


def test_the_next_charge_is_declined_once(shop: Shop, customer: str) -> None:
    made = shop.checkout(customer)
    testing.steer(customer, next_charge="insufficient_funds")
    refused = testing.declined(made.id, testing.GOOD_CARD)
    assert refused == "Your card has insufficient funds."
    testing.pay(made.id)


def test_twice_is_refused(shop: Shop, customer: str) -> None:
    made = shop.checkout(customer)
    testing.pay(made.id)
    with pytest.raises(Refusal):
        testing.pay(made.id)
    assert len(testing.subscriptions_of(customer)) == 1


def test_it_expires_after_a_day(shop: Shop, customer: str) -> None:
    made = shop.checkout(customer)
    testing.turn(customer, days=0.99)
    assert stripe.checkout.Session.retrieve(made.id).status == "open"
    testing.turn(customer, days=0.02)
    expired = stripe.checkout.Session.retrieve(made.id)
    assert (expired.status, expired.url) == ("expired", None)
    assert testing.event_types()[-1] == "checkout.session.expired"
    with pytest.raises(Refusal):
        testing.pay(made.id)


def test_it_is_expired_by_hand(shop: Shop, customer: str) -> None:
    made = shop.checkout(customer)
    assert stripe.checkout.Session.expire(made.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError, match="expired"):
        stripe.checkout.Session.expire(made.id)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"success_url": None}, "Missing required param: success_url"),
        ({"line_items": None}, "Missing required param: line_items"),
        ({"line_items": [{"quantity": 1}]}, r"line_items\[0\]\[price\]"),
        ({"line_items": [{"price": "price_no", "quantity": 1}]}, "No such price"),
        ({"mode": "payment"}, "does not simulate"),
        ({"allow_promotion_codes": True}, "does not simulate"),
        ({"subscription_data": {"trial_period_days": 7}}, "does not simulate"),
        ({"customer": "cus_nobody"}, "No such customer"),
        ({"expires_at": 1}, "does not simulate"),
    ],
)
def test_refused(shop: Shop, customer: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=message):
        shop.checkout(**{"customer": customer} | params)


def test_how_many_is_for_what_is_not_metered(shop: Shop, customer: str) -> None:
    for item in ({"price": shop.base}, {"price": shop.minute, "quantity": 1}):
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            shop.checkout(customer, line_items=[item])
        assert refusal.value.param == "line_items[0][quantity]"
