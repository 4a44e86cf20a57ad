"""Subscriptions: how they begin, change and end."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.payments import testing
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db

DAY = 86_400


def subscribe(shop: Shop, buyer: str, **params: Any) -> stripe.Subscription:
    return stripe.Subscription.create(
        **{"customer": buyer, "items": [{"price": shop.base}, {"price": shop.minute}]} | params
    )


def with_card(customer: str, card: str = "pm_card_visa") -> str:
    method = stripe.PaymentMethod.attach(card, customer=customer)
    stripe.Customer.modify(customer, invoice_settings={"default_payment_method": method.id})
    return method.id


def test_it_works(shop: Shop, customer: str) -> None:
    with_card(customer)
    made = subscribe(shop, customer, metadata={"a": "b"})
    found = stripe.Subscription.retrieve(made.id)
    assert (found.status, found.customer) == ("active", customer)
    base, minute = found["items"].data
    assert (base.price.id, base.quantity) == (shop.base, 1)
    assert (minute.price.id, "quantity" in minute) == (shop.minute, False)
    assert 28 * DAY <= base.current_period_end - base.current_period_start <= 31 * DAY
    assert base.current_period_start == found.start_date == found.billing_cycle_anchor
    assert [item.id for item in stripe.SubscriptionItem.list(subscription=made.id)] == [
        base.id,
        minute.id,
    ]


class TestFirstPayment:
    def test_without_a_card_it_is_incomplete(self, shop: Shop, customer: str) -> None:
        made = subscribe(shop, customer)
        assert made.status == "incomplete"
        [invoice] = testing.invoices_of(customer)
        assert (invoice["status"], invoice["amount_remaining"]) == ("open", 500)

    def test_it_may_come_later(self, shop: Shop, customer: str) -> None:
        made = subscribe(shop, customer, payment_behavior="default_incomplete")
        with_card(customer)
        assert stripe.Invoice.pay(made.latest_invoice).status == "paid"
        assert stripe.Subscription.retrieve(made.id).status == "active"

    def test_it_may_be_too_late(self, shop: Shop, customer: str) -> None:
        made = subscribe(shop, customer)
        testing.turn(customer, days=1)
        found = stripe.Subscription.retrieve(made.id, expand=["latest_invoice"])
        assert (found.status, found.latest_invoice.status) == ("incomplete_expired", "void")

    def test_a_declined_one(self, shop: Shop, customer: str) -> None:
        with_card(customer, "pm_card_chargeCustomerFail")
        made = subscribe(shop, customer)
        assert made.status == "incomplete"
        with pytest.raises(stripe.CardError, match="Your card was declined"):
            stripe.Invoice.pay(made.latest_invoice)
        invoice = stripe.Invoice.retrieve(made.latest_invoice)
        assert (invoice.attempt_count, invoice.status) == (2, "open")

    def test_a_declined_one_as_an_error(self, shop: Shop, customer: str) -> None:
        with_card(customer, "pm_card_chargeCustomerFail")
        with pytest.raises(stripe.CardError):
            subscribe(shop, customer, payment_behavior="error_if_incomplete")
        assert testing.subscriptions_of(customer) == []


class TestEnd:
    def test_now(self, subscribed: str) -> None:
        id = testing.subscription_of(subscribed)["id"]
        ended = stripe.Subscription.cancel(id, cancellation_details={"feedback": "unused"})
        assert ended.status == "canceled"
        assert ended.ended_at == ended.canceled_at
        assert ended.cancellation_details.feedback == "unused"
        assert testing.event_types()[-1] == "customer.subscription.deleted"
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            stripe.Subscription.cancel(id)
        assert refusal.value.code == "resource_missing"

    def test_now_forgets_what_was_used(self, shop: Shop, subscribed: str) -> None:
        shop.use(subscribed, 3, "CA1")
        stripe.Subscription.cancel(testing.subscription_of(subscribed)["id"])
        assert len(testing.invoices_of(subscribed)) == 1

    def test_now_with_what_was_used(self, shop: Shop, subscribed: str) -> None:
        testing.turn(subscribed, days=1)
        shop.use(subscribed, 3, "CA1")
        id = testing.subscription_of(subscribed)["id"]
        stripe.Subscription.cancel(id, invoice_now=True)
        last = testing.invoices_of(subscribed)[-1]
        assert (last["status"], last["total"], testing.minutes_on(last)) == ("paid", 15, 3)

    def test_with_the_period(self, shop: Shop, subscribed: str) -> None:
        id = testing.subscription_of(subscribed)["id"]
        changed = stripe.Subscription.modify(id, cancel_at_period_end=True)
        end = changed["items"].data[0].current_period_end
        assert (changed.status, changed.cancel_at_period_end) == ("active", True)
        assert changed.cancel_at == end
        shop.use(subscribed, 3, "CA1")
        testing.turn(subscribed, to=end)
        ended = stripe.Subscription.retrieve(id)
        assert (ended.status, ended.ended_at) == ("canceled", end)
        last = testing.invoices_of(subscribed)[-1]
        assert (last["total"], testing.minutes_on(last)) == (15, 3)

    def test_taken_back(self, subscribed: str) -> None:
        testing.cancel(subscribed, at_period_end=True)
        id = testing.subscription_of(subscribed)["id"]
        changed = stripe.Subscription.modify(id, cancel_at_period_end=False)
        assert (changed.cancel_at, changed.canceled_at) == (None, None)
        testing.turn_to_renewal(subscribed)
        assert testing.subscription_of(subscribed)["status"] == "active"


class TestTrial:
    @pytest.fixture
    def on_trial(self, shop: Shop, customer: str) -> str:
        pause = {"end_behavior": {"missing_payment_method": "pause"}}
        return subscribe(shop, customer, trial_period_days=7, trial_settings=pause).id

    def test_with_a_card_it_goes_on(self, shop: Shop, on_trial: str, customer: str) -> None:
        with_card(customer)
        shop.use(customer, 9, "free")
        testing.turn(customer, days=7.1)
        found = stripe.Subscription.retrieve(on_trial)
        assert found.status == "active"
        assert found["items"].data[0].current_period_start == found.trial_end
        last = testing.invoices_of(customer)[-1]
        assert (last["status"], last["total"]) == ("paid", 500)

    def test_without_one_it_pauses(self, on_trial: str, customer: str) -> None:
        testing.turn(customer, days=7)
        assert stripe.Subscription.retrieve(on_trial).status == "paused"
        assert testing.event_types()[-1] == "customer.subscription.paused"
        with_card(customer)
        assert stripe.Subscription.resume(on_trial).status == "active"
        testing.turn(customer, days=0.1)
        assert testing.invoices_of(customer)[-1]["status"] == "paid"

    def test_what_does_not_pause_cannot_be_resumed(self, on_trial: str) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="paused"):
            stripe.Subscription.resume(on_trial)

    def test_it_ends_when_it_is_told_to(self, on_trial: str, customer: str) -> None:
        with_card(customer)
        stripe.Subscription.modify(on_trial, trial_end="now")
        assert stripe.Subscription.retrieve(on_trial).status == "active"


def test_list(shop: Shop, subscribed: str) -> None:
    ended = testing.subscription_of(subscribed)["id"]
    stripe.Subscription.cancel(ended)
    live = testing.pay(shop.checkout(subscribed).id)["id"]

    def ids(**params: Any) -> list[str]:
        return [found.id for found in stripe.Subscription.list(customer=subscribed, **params)]

    assert ids() == [live]
    assert ids(status="all") == [live, ended]
    assert ids(status="canceled") == ids(status="ended") == [ended]
    assert ids(price=shop.base) == [live]
    assert ids(price="price_other") == []


@pytest.mark.parametrize(
    "params", [{"items": None}, {"customer": "cus_no"}, {"items": [{"price": "price_no"}]}]
)
def test_refused(shop: Shop, customer: str, params: dict[str, Any]) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        subscribe(shop, customer, **params)


def test_what_would_be_prorated_is_not_simulated(subscribed: str, shop: Shop) -> None:
    id = testing.subscription_of(subscribed)["id"]
    with pytest.raises(stripe.InvalidRequestError, match="does not simulate"):
        stripe.Subscription.modify(id, items=[{"price": shop.base, "quantity": 2}])
