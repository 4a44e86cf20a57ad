"""Subscriptions: how they begin and end."""

from __future__ import annotations

import pytest
import stripe

from sandbox.payments import testing
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db

DAY = 86_400


def id_of(customer: str) -> str:
    return str(testing.subscription_of(customer)["id"])


def test_it_works(shop: Shop, customer: str) -> None:
    checkout = shop.checkout(customer, subscription_data={"metadata": {"a": "b"}})
    found = stripe.Subscription.retrieve(testing.pay(checkout.id)["id"], expand=["latest_invoice"])
    assert (found.status, found.customer, found.metadata["a"]) == ("active", customer, "b")
    assert found.latest_invoice.status == "paid"
    base, minute = found["items"].data
    assert (base.price.id, base.quantity) == (shop.base, 1)
    assert (minute.price.id, "quantity" in minute) == (shop.minute, False)
    assert 28 * DAY <= base.current_period_end - base.current_period_start <= 31 * DAY
    assert base.current_period_start == found.start_date == found.billing_cycle_anchor


class TestEnd:
    def test_now(self, subscribed: str) -> None:
        ended = stripe.Subscription.cancel(id_of(subscribed))
        assert ended.status == "canceled"
        assert ended.ended_at == ended.canceled_at
        assert ended.cancellation_details.reason == "cancellation_requested"
        assert testing.event_types()[-1] == "customer.subscription.deleted"
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            stripe.Subscription.cancel(ended.id)
        assert refusal.value.code == "resource_missing"

    def test_now_forgets_what_was_used(self, shop: Shop, subscribed: str) -> None:
        shop.use(subscribed, 3, "CA1")
        stripe.Subscription.cancel(id_of(subscribed))
        assert len(testing.invoices_of(subscribed)) == 1

    def test_now_with_what_was_used(self, shop: Shop, subscribed: str) -> None:
        testing.turn(subscribed, days=1)
        shop.use(subscribed, 3, "CA1")
        stripe.Subscription.cancel(id_of(subscribed), invoice_now=True)
        last = testing.invoices_of(subscribed)[-1]
        assert (last["status"], last["total"], testing.minutes_on(last)) == ("paid", 15, 3)

    def test_with_the_period(self, shop: Shop, subscribed: str) -> None:
        changed = testing.cancel(subscribed, at_period_end=True)
        end = changed["items"]["data"][0]["current_period_end"]
        assert (changed["status"], changed["cancel_at_period_end"]) == ("active", True)
        assert changed["cancel_at"] == end
        shop.use(subscribed, 3, "CA1")
        testing.turn(subscribed, to=end)
        ended = testing.subscription_of(subscribed)
        assert (ended["status"], ended["ended_at"]) == ("canceled", end)
        last = testing.invoices_of(subscribed)[-1]
        assert (last["total"], testing.minutes_on(last)) == (15, 3)


def test_list(shop: Shop, subscribed: str) -> None:
    ended = id_of(subscribed)
    stripe.Subscription.cancel(ended)
    live = testing.pay(shop.checkout(subscribed).id)["id"]
    found = stripe.Subscription.list(customer=subscribed, status="all")
    assert [each.id for each in found] == [live, ended]
    with pytest.raises(stripe.InvalidRequestError, match="does not simulate"):
        stripe.Subscription.list(customer=subscribed)
