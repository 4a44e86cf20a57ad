"""Billing in the admin: looked at, and nothing more than looked at again."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import Account
from billing.models import PlanPart, StatusChange, StatusCheck, StripeCustomer
from billing.tests.subscribing import subscribe
from billing.tests.watched import Thing, WatchedStripe
from billing.webhooks import webhook_secrets

pytestmark = pytest.mark.django_db

MODELS = [StripeCustomer, StatusCheck, StatusChange, PlanPart]


@pytest.fixture
def olga(client: Client, operator: Account) -> Client:
    """A browser in which the operator has logged in."""
    client.force_login(operator)
    return client


@pytest.fixture
def subscription(carol: Account, at_stripe: WatchedStripe) -> Thing:
    return subscribe(carol, at_stripe)


def list_of(model: Any) -> str:
    return reverse(f"admin:billing_{model._meta.model_name}_changelist")


def page_of(row: Any) -> str:
    return reverse(f"admin:billing_{row._meta.model_name}_change", args=[row.pk])


def text_of(browser: Client, path: str, **query: str) -> str:
    response = browser.get(path, query)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("model", MODELS)
def test_it_works(olga: Client, subscription: Thing, model: Any) -> None:
    row = model.objects.first()
    assert str(row.pk) in text_of(olga, list_of(model))
    text_of(olga, page_of(row))
    assert olga.post(page_of(row), {"cause": "x"}).status_code == 403
    assert olga.post(f"{page_of(row)[:-7]}delete/", {"post": "yes"}).status_code == 403
    assert olga.get(reverse(f"admin:billing_{model._meta.model_name}_add")).status_code == 403


@pytest.mark.parametrize("model", [StripeCustomer, StatusCheck, StatusChange])
@pytest.mark.parametrize("term", ["{account}", "Carol@example.org"])
def test_an_operator_finds_an_account(
    olga: Client, subscription: Thing, carol: Account, model: Any, term: str
) -> None:
    assert "carol@example.org" in text_of(olga, list_of(model), q=term.format(account=carol.id))
    assert "carol@example.org" not in text_of(olga, list_of(model), q="bob@example.org")


def test_a_customer_leads_to_its_account_and_to_stripe(
    olga: Client, subscription: Thing, carol: Account, settings: Any
) -> None:
    customer = StripeCustomer.objects.get()
    assert customer.customer_id in text_of(olga, list_of(StripeCustomer), q=customer.customer_id)
    assert "in the sandbox" in text_of(olga, page_of(customer))
    settings.STRIPE_SANDBOX = False
    text = text_of(olga, page_of(customer))
    assert f"https://dashboard.stripe.com/test/customers/{customer.customer_id}" in text
    assert reverse("admin:accounts_account_change", args=[carol.id]) in text


def test_a_change_tells_its_cause(olga: Client, subscription: Thing) -> None:
    text = text_of(olga, page_of(StatusChange.objects.get()))
    for shown in ("INACTIVE", "ACTIVE", "test", subscription["id"], "active"):
        assert shown in text


@pytest.mark.parametrize(("in_doubt", "shown"), [("yes", False), ("no", True)])
def test_what_is_in_doubt_is_told_apart(
    olga: Client, subscription: Thing, in_doubt: str, shown: bool
) -> None:
    text = text_of(olga, list_of(StatusCheck), in_doubt=in_doubt)
    assert ("carol@example.org" in text) is shown


@pytest.mark.parametrize("model", [StripeCustomer, StatusCheck])
class TestCheckNow:
    def check_now(self, browser: Client, model: Any, carol: Account) -> Any:
        body = {"action": "check_now", "_selected_action": [carol.id], "confirmed": "yes"}
        return browser.post(list_of(model), body, follow=True)

    def test_it_works(self, olga: Client, subscription: Thing, carol: Account, model: Any) -> None:
        response = self.check_now(olga, model, carol)
        assert "Checks requested: 1." in response.content.decode()
        check = StatusCheck.objects.unsettled().get()
        operator = Account.objects.get(email="olga@example.org")
        assert check.cause == f"operator {operator.id}"
        assert LogEntry.objects.get().object_id == carol.id

    def test_it_asks_first(
        self, olga: Client, subscription: Thing, carol: Account, model: Any
    ) -> None:
        body = {"action": "check_now", "_selected_action": [carol.id]}
        asked = olga.post(list_of(model), body)
        assert "Check these accounts with Stripe?" in asked.content.decode()
        assert not StatusCheck.objects.unsettled().exists()

    def test_whoever_may_only_look_may_not(
        self, client: Client, subscription: Thing, carol: Account, model: Any
    ) -> None:
        clerk = Account.objects.create_user("clerk@example.org", "a long walk", is_staff=True)
        look = f"view_{model._meta.model_name}"
        clerk.user_permissions.add(Permission.objects.get(codename=look))
        client.force_login(clerk)
        assert "check_now" not in text_of(client, list_of(model))
        self.check_now(client, model, carol)
        assert not StatusCheck.objects.unsettled().exists()


def test_no_secret_is_shown(olga: Client, subscription: Thing) -> None:
    pages = [list_of(PlanPart), *(page_of(part) for part in PlanPart.objects.all())]
    for text in (text_of(olga, page) for page in pages):
        assert "sealed" not in text
        assert not any(secret in text for secret in webhook_secrets())


def test_dj_stripes_own_pages_are_left_out(olga: Client) -> None:
    assert not [m for m in admin.site._registry if m._meta.app_label == "djstripe"]
    assert "djstripe" not in text_of(olga, reverse("admin:index"))
