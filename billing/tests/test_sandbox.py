"""From registration to the end of a subscription, against the payments sandbox.

The customer pays on the sandbox's pages, the sandbox signs events and delivers them over HTTP, a
job asks the sandbox, and the API answers accordingly.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from accounts.models import Account
from billing.models import StatusChange, StatusCheck, StripeCustomer
from billing.plan import METER_EVENT_NAME, price_ids
from billing.status_checks import page_mark, status_check
from billing.tests.setting_up import set_up_stripe
from core.api import iso
from core.tests.poisons import IS_SHORT
from sandbox.payments import steering, testing
from sandbox.payments.models import Fault

pytestmark = pytest.mark.django_db(transaction=True)

OUTBOUND = "/api/outbound"


@pytest.fixture
def shop(live_server: Any, settings: Any, no_jobs: None) -> Iterator[None]:
    """Stripe is set up, knows where to send events, and keeps them until they are delivered."""
    settings.PUBLIC_URL = live_server.url
    set_up_stripe()
    steering.hold()
    yield
    steering.reset()


class Customer:
    """Somebody who registers, and has a browser at Stripe."""

    def __init__(self, email: str = "you@company.example") -> None:
        body = APIClient().post(
            "/api/auth/register", {"email": email, "password": "a long walk in the rain"}
        )
        assert body.status_code == 201
        self.checkout_url = body.json()["checkoutUrl"]
        self.api = APIClient(headers={"Authorization": f"Bearer {body.json()['apiKey']}"})
        self.account = Account.objects.get(email=email)

    @property
    def id(self) -> str:
        return StripeCustomer.objects.get(account=self.account).customer_id

    @property
    def status(self) -> str:
        return str(self.api.get("/api/billing/subscription").json()["status"])

    @property
    def can_call(self) -> int:
        """The status with which the API answers a call: 400 is as far as an empty one comes."""
        return self.api.post(OUTBOUND, {}).status_code


def events_come() -> None:
    """Deliver Stripe's pending events, and run the jobs that they queue."""
    while steering.deliver():
        do_jobs()


def do_jobs() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "delete from procrastinate_jobs where task_name = 'billing.tasks.check_status'"
            " returning args ->> 'account_id'"
        )
        account_ids = [account_id for (account_id,) in cursor.fetchall()]
    for account_id in account_ids:
        status_check(account_id)


def test_from_registration_to_the_end(shop: None) -> None:
    you = Customer()
    assert (you.status, you.can_call) == ("INACTIVE", 402)

    assert "declined" in testing.declined(you.checkout_url)
    events_come()
    assert you.status == "INACTIVE"

    testing.pay(you.checkout_url)
    assert you.status == "INACTIVE"  # the page that they come back to changes nothing
    events_come()
    assert (you.status, you.can_call) == ("ACTIVE", 400)
    assert you.api.post("/api/billing/checkout").status_code == 409
    assert you.api.get("/api/billing/subscription").json()["hasPaymentMethod"] is True
    [invoice] = you.api.get("/api/billing/invoices").json()["invoices"]
    assert (invoice["amount"], invoice["currency"], invoice["status"]) == (5, "usd", "paid")
    assert invoice["number"]
    assert invoice["hostedUrl"]

    testing.set_card(you.id, testing.LATER_DECLINED_CARD)
    testing.turn_to_renewal(you.id)
    events_come()
    assert (you.status, you.can_call) == ("SUSPENDED", 403)
    assert you.api.post("/api/billing/portal").status_code == 200

    testing.set_card(you.id, testing.GOOD_CARD)
    testing.pay_invoice(testing.invoices_of(you.id)[-1]["id"])
    events_come()
    assert (you.status, you.can_call) == ("ACTIVE", 400)
    assert len(you.api.get("/api/billing/invoices").json()["invoices"]) == 2

    testing.cancel(you.id, at_period_end=True)
    events_come()
    assert you.status == "ACTIVE"
    testing.turn_to_renewal(you.id)
    events_come()
    assert (you.status, you.can_call) == ("INACTIVE", 402)
    assert you.api.post("/api/billing/checkout").status_code == 200

    told = StatusChange.objects.order_by("id").values_list("after", flat=True)
    assert list(told) == ["ACTIVE", "SUSPENDED", "ACTIVE", "INACTIVE"]
    assert not StatusChange.objects.filter(cause="").exists()


class TestUpcomingInvoice:
    PATH = "/api/billing/invoices/upcoming"

    def test_it_works(self, shop: None) -> None:
        you = Customer()
        testing.pay(you.checkout_url)
        stripe.billing.MeterEvent.create(
            event_name=METER_EVENT_NAME,
            identifier="CA1",
            payload={"stripe_customer_id": you.id, "value": "7"},
        )
        response = you.api.get(self.PATH)
        assert response.status_code == 200
        body = response.json()
        subscription = testing.subscription_of(you.id)["items"]["data"][0]
        assert body["periodStart"] == iso_of(subscription["current_period_start"])
        assert body["periodEnd"] == iso_of(subscription["current_period_end"])
        assert (body["amount"], body["currency"]) == (5.35, "usd")
        quantities = [(line["quantity"], line["amount"]) for line in body["lines"]]
        assert sorted(quantities) == [(1, 5), (7, 0.35)]
        assert all("Switchhook" in line["description"] for line in body["lines"])

    def test_there_is_none_without_a_subscription(self, shop: None) -> None:
        you = Customer()
        self.is_missing(you)
        testing.pay(you.checkout_url)
        testing.cancel(you.id)
        self.is_missing(you)

    def test_another_accounts_is_not_shown(self, shop: None) -> None:
        you, other = Customer(), Customer("other@company.example")
        testing.pay(you.checkout_url)
        self.is_missing(other)

    def test_there_is_none_without_a_customer_at_stripe(self, shop: None) -> None:
        steering.fail(Fault.Kind.BROKEN, path="/v1/customers", times=3)
        you = Customer()
        assert not StripeCustomer.objects.exists()
        self.is_missing(you)

    def test_a_stripe_that_is_down_is_said(self, shop: None) -> None:
        you = Customer()
        steering.fail(Fault.Kind.BROKEN)
        response = you.api.get(self.PATH)
        assert (response.status_code, response.json()["code"]) == (502, "payments_unavailable")

    def is_missing(self, customer: Customer) -> None:
        response = customer.api.get(self.PATH)
        assert (response.status_code, response.json()["code"]) == (404, "no_upcoming_invoice")


def iso_of(seconds: int) -> str:
    return iso(datetime.fromtimestamp(seconds, UTC))


def test_a_page_that_expired_is_replaced(shop: None) -> None:
    you = Customer()
    assert you.api.post("/api/billing/checkout").json() == {"url": you.checkout_url}
    testing.expire(you.checkout_url)
    another = you.api.post("/api/billing/checkout").json()["url"]
    assert another != you.checkout_url
    testing.pay(another)
    events_come()
    assert you.status == "ACTIVE"


def test_a_double_checkout_is_paid_back(shop: None) -> None:
    """Subscribed by an operator at Stripe while the page was open, then paid on the page too."""
    you = Customer()
    base, minute = price_ids()
    by_hand = stripe.checkout.Session.create(
        mode="subscription",
        customer=you.id,
        line_items=[{"price": base, "quantity": 1}, {"price": minute}],
        success_url="https://example.org",
    )
    testing.pay(by_hand.id)
    testing.pay(you.checkout_url)
    events_come()
    assert (you.status, you.can_call) == ("ACTIVE", 400)
    first, second = testing.subscriptions_of(you.id)
    assert (first["status"], second["status"]) == ("active", "canceled")
    [payment] = stripe.InvoicePayment.list(invoice=second["latest_invoice"]).data
    [refund] = testing.refunds_of(you.id)
    assert refund["payment_intent"] == payment.payment.payment_intent
    assert (refund["amount"], refund["reason"]) == (500, "duplicate")
    assert not StatusCheck.objects.unsettled().exists()


@pytest.mark.parametrize("kind", [Fault.Kind.UNREACHABLE, Fault.Kind.BROKEN, Fault.Kind.BUSY])
def test_a_stripe_that_is_down_loses_nobody(
    shop: None, kind: Fault.Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stripe.max_network_retries", 0)
    steering.fail(kind)
    you = Customer()
    assert you.checkout_url is None
    for path in ("checkout", "portal"):
        assert you.api.post(f"/api/billing/{path}").status_code == 502
    steering.reset()
    steering.hold()
    testing.pay(you.api.post("/api/billing/checkout").json()["url"])
    events_come()
    assert you.status == "ACTIVE"


def test_an_answer_that_is_lost_makes_no_second_customer(
    shop: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe has done it, and we do not hear: asked again, it is the same one."""
    monkeypatch.setattr("stripe.max_network_retries", 0)
    steering.fail(Fault.Kind.LOST, path="/v1/customers", times=1)
    steering.fail(Fault.Kind.LOST, path="/v1/checkout/sessions", times=1)
    you = Customer()
    assert you.checkout_url is None
    assert you.api.post("/api/billing/checkout").status_code == 502
    assert you.api.post("/api/billing/checkout").status_code == 200
    [customer] = testing.customers()
    assert customer["id"] == you.id


def test_nobody_sees_anothers(shop: None) -> None:
    you, other = Customer(), Customer("other@company.example")
    testing.pay(you.checkout_url)
    events_come()
    assert (you.status, other.status) == ("ACTIVE", "INACTIVE")
    assert other.api.get("/api/billing/invoices").json() == {"invoices": []}
    assert other.api.get("/api/billing/subscription").json()["hasPaymentMethod"] is False


HAPPENINGS = {
    "pay": lambda you: testing.pay(you.api.post("/api/billing/checkout").json()["url"]),
    "decline the renewal": lambda you: (
        testing.set_card(you.id, testing.LATER_DECLINED_CARD),
        testing.turn_to_renewal(you.id),
    ),
    "pay what is owed": lambda you: (
        testing.set_card(you.id, testing.GOOD_CARD),
        testing.pay_invoice(testing.invoices_of(you.id)[-1]["id"]),
    ),
    "cancel": lambda you: testing.cancel(you.id),
}
OWN_WORDS = {"active": "ACTIVE", "past_due": "SUSPENDED", "unpaid": "SUSPENDED"}


@hypothesis_settings(
    max_examples=4 if IS_SHORT else 10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_events_in_any_order_repeated_and_lost(shop: None, data: st.DataObject) -> None:
    """A whole life at Stripe; after each step some of the events come, twice, late or never."""
    number = Account.objects.count()
    you = Customer(f"{number}@company.example")
    life = ["pay", "decline the renewal", "pay what is owed", "cancel"]
    for step in life[: data.draw(st.integers(1, 4), label="steps")]:
        HAPPENINGS[step](you)
        fate = st.lists(st.sampled_from(range(12)), max_size=6)
        steering.deliver(order=lambda waiting, fate=fate: _chosen(data, fate, waiting))
        if data.draw(st.booleans(), label="jobs"):
            do_jobs()
    if data.draw(st.booleans(), label="the rest is lost"):
        steering.drop()
    page_mark()
    do_jobs()
    at_stripe = testing.subscription_of(you.id)["status"]
    assert you.status == OWN_WORDS.get(at_stripe, "INACTIVE")
    assert not StatusCheck.objects.unsettled().exists()


def _chosen(data: st.DataObject, fate: Any, waiting: list[Any]) -> list[Any]:
    indexes = data.draw(fate, label="delivered")
    return [waiting[index] for index in indexes if index < len(waiting)]
