"""The billing API, in every status, for the account alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Account
from billing.plan import PRODUCT_ID
from billing.tests.subscribing import check, down, subscribe
from billing.tests.watched import Thing, WatchedStripe
from usage.models import DailyUsage, TotalUsage

pytestmark = pytest.mark.django_db

READS = [
    "/api/billing/subscription",
    "/api/billing/invoices",
    "/api/billing/spending-limit",
]


class TestSubscription:
    def test_it_works(self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe) -> None:
        subscribe(carol, at_stripe)
        TotalUsage.objects.create(account=carol, calls=142, minutes=310)
        at_stripe.requests.clear()
        response = carol_api.get("/api/billing/subscription")
        assert response.status_code == 200
        assert response.json() == {
            "status": "ACTIVE",
            "monthlyBase": 5,
            "perMinuteRate": 0.05,
            "totalCalls": 142,
            "totalMinutes": 310,
            "hasPaymentMethod": True,
        }
        assert at_stripe.requests == []

    def test_before_the_checkout(self, carol_api: APIClient, at_stripe: WatchedStripe) -> None:
        body = carol_api.get("/api/billing/subscription").json()
        assert (body["status"], body["hasPaymentMethod"]) == ("INACTIVE", False)

    def test_an_operators_suspension_shows(
        self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        subscribe(carol, at_stripe)
        Account.objects.update(suspended_by_operator=True)
        assert carol_api.get("/api/billing/subscription").json()["status"] == "SUSPENDED"

    @pytest.mark.parametrize(
        ("of_subscription", "of_customer", "expected"),
        [(None, None, False), ("pm_1", None, True), (None, "pm_1", True)],
    )
    def test_the_payment_method(
        self,
        carol: Account,
        carol_api: APIClient,
        at_stripe: WatchedStripe,
        of_subscription: str | None,
        of_customer: str | None,
        expected: bool,
    ) -> None:
        subscription = subscribe(carol, at_stripe)
        subscription["default_payment_method"] = of_subscription
        method = of_customer and {"id": of_customer, "object": "payment_method", "type": "card"}
        customer = at_stripe.things[subscription["customer"]]
        customer["invoice_settings"] = {"default_payment_method": method}
        check(carol)
        body = carol_api.get("/api/billing/subscription").json()
        assert body["hasPaymentMethod"] is expected

    def test_that_of_an_ended_subscription_charges_nothing(
        self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        subscribe(carol, at_stripe, status="canceled")
        assert carol_api.get("/api/billing/subscription").json()["hasPaymentMethod"] is False


class TestPortal:
    PATH = "/api/billing/portal"

    @pytest.mark.parametrize("who", ["alice_api", "carol_api", "dave_api"])
    def test_it_works(
        self, request: Any, at_stripe: WatchedStripe, settings: Any, who: str
    ) -> None:
        response = request.getfixturevalue(who).post(self.PATH)
        assert response.status_code == 200
        [session] = at_stripe.all("billing_portal.session")
        [configuration] = at_stripe.all("billing_portal.configuration")
        [customer] = at_stripe.all("customer")
        assert response.json() == {"url": session["url"]}
        assert session["configuration"] == configuration["id"]
        assert session["customer"] == customer["id"]
        assert session["return_url"] == f"{settings.PUBLIC_URL}/billing/portal/left"

    def test_a_stripe_that_is_down_is_said(
        self, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        at_stripe.before = down
        response = carol_api.post(self.PATH)
        assert (response.status_code, response.json()["code"]) == (502, "payments_unavailable")

    def test_strangers_are_refused(self, anonymous_api: APIClient) -> None:
        assert anonymous_api.post(self.PATH).status_code == 401


BASE_LINE = {
    "amount": 500,
    "description": "The base fee",
    "period": {"start": 1_775_088_000, "end": 1_777_680_000},
    "pricing": {"price_details": {"price": "price_1", "product": PRODUCT_ID}},
    "quantity": 1,
}


class TestInvoices:
    PATH = "/api/billing/invoices"

    @pytest.fixture
    def invoice(self, carol: Account, at_stripe: WatchedStripe) -> Thing:
        subscription = subscribe(carol, at_stripe)
        invoice = at_stripe.things[subscription["latest_invoice"]]
        invoice.update(
            {
                "number": "A1B2-0001",
                "created": 1_775_000_000,
                "period_start": 1_772_409_600,
                "period_end": 1_775_088_000,
                "total": 735,
                "currency": "usd",
                "hosted_invoice_url": "https://invoice.example/1",
                "lines": {"data": [BASE_LINE, {**BASE_LINE, "pricing": None}]},
            }
        )
        return invoice

    def test_it_works(self, carol_api: APIClient, invoice: Thing) -> None:
        response = carol_api.get(self.PATH)
        assert response.status_code == 200
        line = {
            "kind": "base_fee",
            "description": "The base fee",
            "quantity": 1,
            "amount": 5,
            "periodStart": "2026-04-02T00:00:00.000Z",
            "periodEnd": "2026-05-02T00:00:00.000Z",
        }
        assert response.json() == {
            "invoices": [
                {
                    "id": invoice["id"],
                    "number": "A1B2-0001",
                    "periodStart": "2026-03-02T00:00:00.000Z",
                    "periodEnd": "2026-04-02T00:00:00.000Z",
                    "amount": 7.35,
                    "currency": "usd",
                    "status": "paid",
                    "hostedUrl": "https://invoice.example/1",
                    "createdAt": "2026-03-31T23:33:20.000Z",
                    "lines": [line, line | {"kind": "other"}],
                }
            ]
        }

    def test_the_newest_is_first(
        self, carol_api: APIClient, at_stripe: WatchedStripe, invoice: Thing
    ) -> None:
        at_stripe.things["in_later"] = invoice.body
        ids = [found["id"] for found in carol_api.get(self.PATH).json()["invoices"]]
        assert ids == ["in_later", invoice["id"]]

    def test_a_draft_is_none_yet(
        self, carol_api: APIClient, at_stripe: WatchedStripe, invoice: Thing
    ) -> None:
        invoice["status"] = "draft"
        assert carol_api.get(self.PATH).json() == {"invoices": []}

    def test_those_of_others_are_not_shown(
        self, bob_api: APIClient, bob: Account, at_stripe: WatchedStripe, invoice: Thing
    ) -> None:
        assert bob_api.get(self.PATH).json() == {"invoices": []}
        Account.objects.filter(pk=bob.pk).update(status="INACTIVE")
        assert bob_api.post("/api/billing/checkout").status_code == 200  # makes Bob a customer
        assert bob_api.get(self.PATH).json() == {"invoices": []}

    def test_nobody_has_any_before_the_checkout(
        self, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        assert carol_api.get(self.PATH).json() == {"invoices": []}
        assert at_stripe.requests == []

    def test_a_stripe_that_is_down_is_said(
        self, carol_api: APIClient, at_stripe: WatchedStripe, invoice: Thing
    ) -> None:
        at_stripe.before = down
        response = carol_api.get(self.PATH)
        assert (response.status_code, response.json()["code"]) == (502, "payments_unavailable")


class TestSpendingLimit:
    PATH = "/api/billing/spending-limit"

    def test_it_works(self, alice: Account, alice_api: APIClient) -> None:
        day = timezone.now().date()
        DailyUsage.objects.create(account=alice, day=day, calls=3, minutes=47)
        none = {"monthlyLimit": None, "currentMonthSpent": 2.35, "isReached": False}
        assert alice_api.get(self.PATH).json() == none
        response = alice_api.put(self.PATH, {"monthlyLimit": 2.35})
        assert response.status_code == 200
        reached = {"monthlyLimit": 2.35, "currentMonthSpent": 2.35, "isReached": True}
        assert response.json() == alice_api.get(self.PATH).json() == reached
        assert alice_api.put(self.PATH, {"monthlyLimit": None}).json() == none

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"monthlyLimit": 0},
            {"monthlyLimit": -5},
            {"monthlyLimit": "5"},
            {"monthlyLimit": ""},
            {"monthlyLimit": " "},
            {"monthlyLimit": True},
            {"monthlyLimit": 1.005},
            {"monthlyLimit": 1_000_000.01},
            {"monthlyLimit": [5]},
        ],
    )
    def test_what_cannot_be_one(self, alice_api: APIClient, body: dict[str, Any]) -> None:
        response = alice_api.put(self.PATH, body)
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["monthlyLimit"]
        assert alice_api.get(self.PATH).json()["monthlyLimit"] is None

    def test_that_of_others_stays(self, alice_api: APIClient, bob_api: APIClient) -> None:
        alice_api.put(self.PATH, {"monthlyLimit": 5})
        assert bob_api.put(self.PATH, {"monthlyLimit": 7}).json()["monthlyLimit"] == 7
        assert alice_api.get(self.PATH).json()["monthlyLimit"] == 5

    def test_strangers_are_refused(self, anonymous_api: APIClient) -> None:
        assert anonymous_api.get(self.PATH).status_code == 401
        assert anonymous_api.put(self.PATH, {"monthlyLimit": 5}).status_code == 401


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("who", ["alice_api", "carol_api", "dave_api"])
def test_whoever_owes_can_read(request: Any, at_stripe: WatchedStripe, who: str, path: str) -> None:
    assert request.getfixturevalue(who).get(path).status_code == 200


@pytest.mark.parametrize("path", READS)
def test_strangers_cannot(anonymous_api: APIClient, path: str) -> None:
    assert anonymous_api.get(path).status_code == 401


def test_the_subscription_is_readable_without_stripe(
    carol: Account, carol_api: APIClient, at_stripe: WatchedStripe
) -> None:
    subscribe(carol, at_stripe)
    at_stripe.before = down
    assert carol_api.get("/api/billing/subscription").json()["hasPaymentMethod"] is True
