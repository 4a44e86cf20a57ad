"""The pages that control time, charges and events."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from django.test import Client

from sandbox.payments import steering, testing
from sandbox.payments.models import Delivery, DeliveryRule, Fault, Steering
from sandbox.tests.payments.conftest import Shop
from sandbox.tests.payments.receiver import Receiver, deliver_due
from sandbox.tests.payments.test_pages import text_of

pytestmark = pytest.mark.django_db

INDEX = "/sandbox/payments/"
EVENTS = "/sandbox/payments/events"


def page_of(customer: str) -> str:
    return f"{INDEX}customers/{customer}"


def post(client: Client, address: str, **fields: Any) -> str:
    response = client.post(address, fields, follow=True)
    assert response.status_code == 200
    return text_of(response)


def test_it_works(client: Client, subscribed: str, shop: Shop) -> None:
    shop.checkout(subscribed)
    shop.checkout(stripe.Customer.create(email="bob@example.org").id)
    shown = text_of(client.get(INDEX))
    assert "active period until" in shown
    for who in ("alice@example.org", "bob@example.org"):
        assert f"$5.00 for {who} until" in shown
    assert "$5.00" in text_of(client.get(page_of(subscribed)))


def test_nobody_is_here_yet(client: Client) -> None:
    assert "Nobody is here yet." in text_of(client.get(INDEX))
    assert "Nothing was sent yet." in text_of(client.get(EVENTS))


def test_unknown(client: Client) -> None:
    for method in (client.get, client.post):
        for address in ("", "/turn", "/steer", "/subscription"):
            assert method(f"{page_of('cus_none')}{address}").status_code in (404, 405)


def test_an_address_may_be_broken_after_the_at(client: Client, customer: str) -> None:
    stripe.Customer.modify(customer, email="<b>alice</b>@example.org")
    shown = client.get(page_of(customer)).content.decode()
    assert "<h1>&lt;b&gt;alice&lt;/b&gt;@<wbr>example.org</h1>" in shown


class TestClock:
    def test_to_the_next_renewal(self, client: Client, subscribed: str) -> None:
        shown = post(client, f"{page_of(subscribed)}/turn", by="renewal")
        assert "ahead" in shown
        assert [each["status"] for each in testing.invoices_of(subscribed)] == ["paid", "paid"]

    def test_to_the_end(self, client: Client, subscribed: str) -> None:
        testing.cancel(subscribed, at_period_end=True)
        assert "active ends" in text_of(client.get(INDEX))
        shown = text_of(client.get(page_of(subscribed)))
        assert "To the subscription's end" in shown
        assert "renewal" not in shown
        shown = post(client, f"{page_of(subscribed)}/turn", by="renewal")
        assert "To the subscription's end" not in shown
        assert "canceled ended" in text_of(client.get(INDEX))

    def test_until_something_happens(self, client: Client, subscribed: str) -> None:
        post(client, f"{page_of(subscribed)}/turn", by="next")
        assert testing.invoices_of(subscribed)[-1]["status"] == "draft"
        post(client, f"{page_of(subscribed)}/turn", by="next")
        assert testing.invoices_of(subscribed)[-1]["status"] == "paid"

    def test_a_day(self, client: Client, subscribed: str) -> None:
        assert "1 day ahead" in post(client, f"{page_of(subscribed)}/turn", by="day")
        assert len(testing.invoices_of(subscribed)) == 1

    def test_where_nothing_happens(self, client: Client, customer: str) -> None:
        shown = post(client, f"{page_of(customer)}/turn", by="next")
        assert "Nothing will happen" in shown


class TestCharges:
    def test_the_next_one_is_declined(self, client: Client, subscribed: str) -> None:
        fields = {"next_charge": "expired_card", "dunning_end": "unpaid"}
        assert "Saved." in post(client, f"{page_of(subscribed)}/steer", **fields)
        post(client, f"{page_of(subscribed)}/turn", by="renewal")
        assert testing.subscription_of(subscribed)["status"] == "past_due"
        steered = Steering.objects.get()
        assert (steered.next_charge, steered.dunning_end) == ("", "unpaid")

    def test_the_subscription(self, client: Client, subscribed: str) -> None:
        address = f"{page_of(subscribed)}/subscription"
        post(client, address, do="cancel_at_period_end")
        assert testing.subscription_of(subscribed)["cancel_at_period_end"] is True
        post(client, address, do="go_on")
        assert testing.subscription_of(subscribed)["cancel_at"] is None
        post(client, address, do="cancel")
        assert testing.subscription_of(subscribed)["status"] == "canceled"


class TestEvents:
    @pytest.fixture
    def secret(self, receiver: Receiver) -> str:
        return receiver.register("customer.created")

    def test_held_and_released(self, client: Client, receiver: Receiver, secret: str) -> None:
        rule = {"is_held": "on", "copies": 1, "delay_s": 0, "order": "oldest"}
        assert "treated so" in post(client, f"{EVENTS}/rule", **rule)
        stripe.Customer.create(name="Alice")
        assert "customer.created" in text_of(client.get(EVENTS))
        deliver_due()
        assert receiver.received == []
        assert "Released: 1." in post(client, f"{EVENTS}/release")
        deliver_due()
        assert receiver.types(secret) == ["customer.created"]

    def test_lost_and_sent_again(self, client: Client, receiver: Receiver, secret: str) -> None:
        stripe.Customer.create(name="Alice")
        [delivery] = Delivery.objects.all()
        post(client, f"{EVENTS}/{delivery.pk}", do="drop")
        deliver_due()
        assert receiver.received == []
        for times in (1, 2):
            post(client, f"{EVENTS}/{delivery.pk}", do="send")
            deliver_due()
            assert len(receiver.received) == times

    def test_numbers_that_are_none(self, client: Client) -> None:
        rule = {"copies": "many", "delay_s": 0, "order": "oldest"}
        assert "numbers, please" in post(client, f"{EVENTS}/rule", **rule)
        assert not DeliveryRule.objects.exists()

    def test_unknown(self, client: Client) -> None:
        assert client.post(f"{EVENTS}/1").status_code == 404


def test_stripe_fails_and_recovers(client: Client) -> None:
    assert "cannot be reached" in post(client, f"{INDEX}fault", kind=Fault.Kind.UNREACHABLE)
    with pytest.raises(stripe.APIConnectionError):
        stripe.billing.Meter.list()
    post(client, f"{INDEX}fault")
    assert list(stripe.billing.Meter.list()) == []
    steering.reset()
