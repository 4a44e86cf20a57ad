"""From registration to a subscription: through our API, and the customer's hand at Stripe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import stripe
from django.db import connections
from rest_framework.test import APIClient

from accounts.models import Account
from billing.checkout import checkout_open, checkout_url_for
from billing.customers import customer_of
from billing.models import PlanPart, StatusCheck, StripeCustomer
from billing.plan import price_ids
from billing.status_checks import status_check
from billing.stripe_api import PaymentsUnavailable
from billing.tests.subscribing import down, kill_at
from billing.tests.watched import Killed, Request, Thing, WatchedStripe, nothing
from sandbox.payments import testing

pytestmark = pytest.mark.django_db

PATH = "/api/billing/checkout"
NEWCOMER = {"email": "you@company.example", "password": "a long walk in the rain"}


def only(watched: WatchedStripe, kind: str) -> Thing:
    [thing] = watched.all(kind)
    return thing


class TestRegistration:
    def test_it_works(
        self, anonymous_api: APIClient, at_stripe: WatchedStripe, settings: Any
    ) -> None:
        response = anonymous_api.post("/api/auth/register", NEWCOMER | {"companyName": "You Inc."})
        assert response.status_code == 201
        account = Account.objects.get(email=NEWCOMER["email"])
        customer = only(at_stripe, "customer")
        assert customer["metadata"] == {"account_id": account.id}
        # Stripe writes the name on receipts, and nobody has confirmed the address that gets them.
        assert (customer["email"], customer["name"]) == (NEWCOMER["email"], NEWCOMER["email"])
        assert account.stripe_customer.customer_id == customer["id"]
        session = only(at_stripe, "checkout.session")
        assert response.json()["checkoutUrl"] == session["url"]
        base, minute = price_ids()
        asked = at_stripe.requests[-1].params
        assert {name: asked[name] for name in asked if name.startswith("line_items")} == {
            "line_items[0][price]": base,
            "line_items[0][quantity]": "1",
            "line_items[1][price]": minute,
        }
        assert session["mode"] == "subscription"
        assert session["customer"] == customer["id"]
        assert session["client_reference_id"] == account.id
        assert session["success_url"] == f"{settings.PUBLIC_URL}/billing/checkout/paid"
        assert session["cancel_url"] == f"{settings.PUBLIC_URL}/billing/checkout/left"

    def test_a_stripe_that_is_down_loses_nobody(
        self, anonymous_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        at_stripe.before = down
        response = anonymous_api.post("/api/auth/register", NEWCOMER)
        assert response.status_code == 201
        assert response.json()["checkoutUrl"] is None
        at_stripe.before = nothing
        api = APIClient(headers={"Authorization": f"Bearer {response.json()['apiKey']}"})
        assert api.post(PATH).json() == {"url": only(at_stripe, "checkout.session")["url"]}

    def test_nor_does_one_that_is_not_set_up(
        self, anonymous_api: APIClient, watched: WatchedStripe
    ) -> None:
        response = anonymous_api.post("/api/auth/register", NEWCOMER)
        assert response.status_code == 201
        assert response.json()["checkoutUrl"] is None

    def test_a_refusal_of_stripes_does_not_either(
        self, carol: Account, at_stripe: WatchedStripe
    ) -> None:
        def refuse(request: Request) -> None:
            raise stripe.InvalidRequestError("No such price", "line_items[0][price]")

        at_stripe.before = refuse
        assert checkout_url_for(carol) is None


class TestCheckout:
    def test_it_works(self, carol_api: APIClient, at_stripe: WatchedStripe) -> None:
        response = carol_api.post(PATH)
        assert response.status_code == 200
        assert response.json() == {"url": only(at_stripe, "checkout.session")["url"]}

    def test_one_that_is_open_is_used_again(
        self, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        assert carol_api.post(PATH).json() == carol_api.post(PATH).json()
        assert len(at_stripe.all("checkout.session")) == 1

    def test_after_one_has_expired_there_is_another(
        self, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        before = carol_api.post(PATH).json()
        testing.expire(only(at_stripe, "checkout.session")["id"])
        assert carol_api.post(PATH).json() != before
        assert len(at_stripe.all("checkout.session")) == 2

    def test_whoever_has_just_paid_is_told(
        self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        """Before the event has come: Stripe itself is asked, and the status is on its way."""
        carol_api.post(PATH)
        at_stripe.pay(only(at_stripe, "checkout.session")["id"])
        response = carol_api.post(PATH)
        assert response.status_code == 409
        assert response.json()["code"] == "already_subscribed"
        assert StatusCheck.objects.unsettled().get().account == carol

    @pytest.mark.parametrize("status", ["past_due", "unpaid", "paused", "trialing"])
    def test_whoever_owes_goes_to_the_portal(
        self, carol_api: APIClient, at_stripe: WatchedStripe, status: str
    ) -> None:
        carol_api.post(PATH)
        at_stripe.pay(only(at_stripe, "checkout.session")["id"], status=status)
        assert carol_api.post(PATH).status_code == 409

    def test_whoever_has_left_may_come_back(
        self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        carol_api.post(PATH)
        at_stripe.pay(only(at_stripe, "checkout.session")["id"], status="canceled")
        response = carol_api.post(PATH)
        assert response.status_code == 200
        assert len(at_stripe.all("checkout.session")) == 2
        assert len(at_stripe.all("customer")) == 1

    def test_a_customer_that_stripe_has_deleted_gets_another(
        self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        carol_api.post(PATH)
        gone = only(at_stripe, "customer")["id"]
        testing.delete_customer(gone)
        assert carol_api.post(PATH).status_code == 200
        new = StripeCustomer.objects.get(account=carol)
        assert new.customer_id != gone
        assert new.deleted_at is None
        assert at_stripe.all("checkout.session")[-1]["customer"] == new.customer_id

    @pytest.mark.parametrize("path", [PATH, "/api/billing/portal"])
    def test_one_that_was_deleted_before_any_checkout_is_found_out(
        self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe, path: str
    ) -> None:
        """The first request meets it, a check finds out, and the next one is served."""
        customer = customer_of(carol)
        testing.delete_customer(customer.customer_id)
        response = carol_api.post(path)
        assert (response.status_code, response.json()["code"]) == (502, "payments_unavailable")
        status_check(carol.id)
        assert carol_api.post(path).status_code == 200
        assert StripeCustomer.objects.get(account=carol).customer_id != customer.customer_id

    def test_one_whom_stripe_does_not_know_is_no_error_of_the_customers(
        self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        carol_api.post(PATH)
        del at_stripe.things[StripeCustomer.objects.get().customer_id]
        assert carol_api.post(PATH).status_code == 502

    def test_the_active_have_one(self, alice_api: APIClient, at_stripe: WatchedStripe) -> None:
        assert alice_api.post(PATH).json()["code"] == "already_subscribed"

    def test_so_have_the_suspended(self, dave_api: APIClient, at_stripe: WatchedStripe) -> None:
        response = dave_api.post(PATH)
        assert (response.status_code, response.json()["code"]) == (409, "already_subscribed")

    def test_whom_an_operator_suspended_cannot_pay_for_it(
        self, carol: Account, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        carol.suspended_by_operator = True
        carol.save()
        response = carol_api.post(PATH)
        assert (response.status_code, response.json()["code"]) == (403, "account_suspended")
        assert at_stripe.requests == []

    def test_a_stripe_that_is_down_is_said(
        self, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        at_stripe.before = down
        response = carol_api.post(PATH)
        assert response.status_code == 502
        assert response.json()["code"] == "payments_unavailable"

    def test_prices_that_were_not_set_up_are_not_sold(
        self, carol_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        PlanPart.objects.filter(pk=PlanPart.Name.BASE_PRICE).delete()
        assert carol_api.post(PATH).status_code == 502
        assert at_stripe.all("checkout.session") == []

    def test_strangers_are_refused(self, anonymous_api: APIClient) -> None:
        assert anonymous_api.post(PATH).status_code == 401

    def test_everybody_has_their_own(
        self, carol_api: APIClient, anonymous_api: APIClient, at_stripe: WatchedStripe
    ) -> None:
        carols = carol_api.post(PATH).json()
        yours = anonymous_api.post("/api/auth/register", NEWCOMER).json()["checkoutUrl"]
        assert carols["url"] != yours
        assert len({s["customer"] for s in at_stripe.all("checkout.session")}) == 2


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("request_number", [0, 1])
def test_killed_at_any_request_it_comes_to_the_same(
    carol: Account, at_stripe: WatchedStripe, moment: str, request_number: int
) -> None:
    setattr(at_stripe, moment, kill_at(request_number))
    with pytest.raises(Killed):
        checkout_open(account=carol)
    setattr(at_stripe, moment, nothing)
    assert checkout_open(account=carol) == only(at_stripe, "checkout.session")["url"]
    assert carol.stripe_customer.customer_id == only(at_stripe, "customer")["id"]


@pytest.mark.django_db(transaction=True)
def test_requests_at_once_get_the_same_page(carol: Account, at_stripe: WatchedStripe) -> None:
    start = Barrier(5, timeout=10)

    def attempt(_: int) -> str:
        try:
            start.wait()
            return checkout_open(account=Account.objects.get(pk=carol.pk))
        except PaymentsUnavailable:  # Stripe is at it already, and says to come again
            return ""
        finally:
            connections.close_all()

    with ThreadPoolExecutor(5) as pool:
        urls = set(pool.map(attempt, range(5)))
    assert urls - {""} == {only(at_stripe, "checkout.session")["url"]}
    assert checkout_open(account=carol) in urls
    only(at_stripe, "customer")


def test_paying_makes_the_account_active(carol: Account, at_stripe: WatchedStripe) -> None:
    checkout_open(account=carol)
    subscription = at_stripe.pay(only(at_stripe, "checkout.session")["id"])
    StatusCheck.objects.all().mark("test")
    status_check(carol.id)
    carol.refresh_from_db()
    assert carol.status == Account.Status.ACTIVE
    assert carol.status_changes.get().subscription_id == subscription["id"]
