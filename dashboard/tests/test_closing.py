"""Deleting an account, against the payments sandbox."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import stripe
from django.db.models import F
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import Account
from accounts.services import api_key_create
from billing.models import StripeCustomer
from billing.status_checks import status_check, status_mark
from billing.stripe_api import PaymentsUnavailable
from billing.tasks import check_status
from billing.tests.setting_up import set_up_stripe
from dashboard.tasks import end_account
from dashboard.tests.conftest import logged_in
from dashboard.tests.live import hang_up, live_call_of
from dashboard.tests.mails import jobs, sent
from dashboard.tests.test_settings import call_of
from operations.closing import account_end
from sandbox.payments import steering, testing
from sandbox.payments.models import Fault
from telephony.models import NotificationSettings, PhoneNumber
from telephony.notices import webhook_set
from telephony.numbers import phone_number_register
from usage.models import UsageRecord
from usage.services import usage_record_create

pytestmark = pytest.mark.django_db

DELETE = "/dashboard/settings/delete"
END = "dashboard.tasks.end_account"
NEW = {"email": "erin@example.org", "password": "a long walk in the rain"}


@pytest.fixture
def stripe_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    set_up_stripe()
    steering.hold()


@pytest.fixture
def erin(stripe_is_set_up: None) -> Account:
    """Somebody who has signed up and paid."""
    address = Client().post("/signup", NEW)["Location"]
    testing.pay(address)
    account = Account.objects.get(email=NEW["email"])
    check_status_of(account)
    assert account.status == "ACTIVE"
    return account


def check_status_of(account: Account) -> None:
    status_mark(account_id=account.id, cause="test")
    check_status(account.id)
    account.refresh_from_db()


def delete(web: Client, email: str = NEW["email"]) -> Any:
    return web.post(DELETE, {"email": email})


def customer_id(account: Account) -> str:
    return StripeCustomer.objects.get(account=account).customer_id


def do_billing_jobs() -> None:
    """Do them a while after the account was deleted."""
    a_minute_passes()
    for _, arguments in jobs(END):
        end_account(**arguments)


def a_minute_passes() -> None:
    Account.objects.update(closed_at=F("closed_at") - timedelta(minutes=1))


def test_it_works(erin: Account) -> None:
    web = logged_in(erin)
    key = web_key(erin)
    urls = {"on_call_start_url": "https://b.example/s", "on_call_end_url": "https://b.example/e"}
    phone_number_register(account=erin, phone_number="+15551234567", **urls)
    call = live_call_of(erin, 1, minutes=7)
    usage_record_create(
        account_id=erin.id,
        call_sid=f"CA{2:032x}",
        direction="inbound",
        caller_phone="+19805551234",
        called_number="+15551234567",
        duration_seconds=90,
        billed_seconds=90,
        twilio_cost=Decimal(0),
        openai_cost=Decimal(0),
        ended_at=call.created_at,
    )

    assert delete(web)["Location"] == "/account-deleted"
    assert "Your account was deleted" in web.get("/account-deleted").content.decode()

    assert web.get("/dashboard/settings")["Location"].startswith("/login")
    assert logged_in(erin).get("/dashboard/settings")["Location"].startswith("/login")
    assert APIClient().post("/api/auth/login", NEW).status_code == 401
    assert key.get("/api/account").status_code == 401
    assert not PhoneNumber.objects.exists()
    call.refresh_from_db()
    assert call.hangup_requested_at is not None
    assert UsageRecord.objects.filter(account=erin).exists()

    do_billing_jobs()
    assert testing.subscription_of(customer_id(erin))["status"] == "active"
    hang_up(call)
    do_billing_jobs()
    assert testing.subscription_of(customer_id(erin))["status"] == "canceled"
    last = testing.invoices_of(customer_id(erin))[-1]
    assert testing.minutes_on(last) == 2 + 7  # what was used and not charged yet
    status_check(erin.id)
    erin.refresh_from_db()
    assert (erin.status, erin.is_active, bool(erin.closed_at)) == ("INACTIVE", False, True)

    # The address is free, and who signs up with it begins anew.
    assert Client().post("/signup", NEW).status_code == 302
    assert Account.objects.get(email=NEW["email"]).pk != erin.pk


def test_a_number_that_comes_too_late_is_no_longer_taken(erin: Account) -> None:
    """A request that registers one was under way when the account was closed."""
    delete(logged_in(erin))
    urls = {"on_call_start_url": "https://b.example/s", "on_call_end_url": "https://b.example/e"}
    phone_number_register(account=erin, phone_number="+15551234567", **urls)
    do_billing_jobs()
    assert not PhoneNumber.objects.exists()


class TestNotificationWebhook:
    """Its URL is a secret: whoever has it can post to the channel."""

    def test_it_is_forgotten_at_once(self, alice: Account, bob: Account, alice_web: Client) -> None:
        for account in (alice, bob):
            webhook_set(account=account, url="https://hooks.example/services/x")
        delete(alice_web, alice.email)
        assert NotificationSettings.objects.get().account == bob

    def test_one_that_comes_too_late_is_forgotten_with_the_calls(self, carol: Account) -> None:
        """A request that sets one was in progress when the account was closed."""
        delete(logged_in(carol), carol.email)
        webhook_set(account=carol, url="https://hooks.example/services/x")
        do_billing_jobs()
        assert not NotificationSettings.objects.exists()


def web_key(account: Account) -> APIClient:
    key = api_key_create(account=account).plain
    return APIClient(headers={"Authorization": f"Bearer {key}"})


def test_its_confirmed_address_is_told(alice_web: Client, alice: Account) -> None:
    address = alice.email
    delete(alice_web, address)
    [message] = sent()
    assert message.to == [address]
    assert message.subject == "Your account was deleted"
    assert "Your Switchhook account was deleted" in str(message.body)


def test_an_address_that_nobody_has_confirmed_is_not(alice_web: Client, alice: Account) -> None:
    Account.objects.update(email_verified_at=None)
    delete(alice_web, alice.email)
    assert sent() == []


class TestAtStripe:
    def test_a_stripe_that_is_down_is_asked_again(self, erin: Account) -> None:
        delete(logged_in(erin))
        fault = steering.fail(Fault.Kind.UNREACHABLE)
        a_minute_passes()
        [(_, arguments)] = jobs(END)
        with pytest.raises(PaymentsUnavailable):
            end_account(**arguments)
        assert testing.subscription_of(customer_id(erin))["status"] == "active"
        fault.delete()
        end_account(**arguments)
        assert testing.subscription_of(customer_id(erin))["status"] == "canceled"

    def test_an_answer_that_was_lost_changes_nothing(self, erin: Account) -> None:
        delete(logged_in(erin))
        a_minute_passes()
        steering.fail(Fault.Kind.LOST, method="DELETE", times=1)
        with pytest.raises(PaymentsUnavailable):
            account_end(account_id=erin.id)
        account_end(account_id=erin.id)
        assert testing.subscription_of(customer_id(erin))["status"] == "canceled"
        assert len(testing.invoices_of(customer_id(erin))) <= 2

    def test_twice_is_once(self, erin: Account) -> None:
        delete(logged_in(erin))
        a_minute_passes()
        for _ in range(2):
            account_end(account_id=erin.id)
        assert testing.subscription_of(customer_id(erin))["status"] == "canceled"

    def test_a_page_that_is_open_closes(self, stripe_is_set_up: None) -> None:
        address = Client().post("/signup", NEW)["Location"]
        erin = Account.objects.get(email=NEW["email"])
        delete(logged_in(erin))
        do_billing_jobs()
        assert "expired" in Client().get(address).content.decode()

    def test_what_is_paid_for_all_the_same_is_cancelled(self, stripe_is_set_up: None) -> None:
        address = Client().post("/signup", NEW)["Location"]
        erin = Account.objects.get(email=NEW["email"])
        delete(logged_in(erin))
        testing.pay(address)
        check_status_of(erin)
        do_billing_jobs()
        assert testing.subscription_of(customer_id(erin))["status"] == "canceled"

    def test_an_account_that_never_paid_has_nothing_to_end(self, carol: Account) -> None:
        delete(logged_in(carol), carol.email)
        do_billing_jobs()
        assert not StripeCustomer.objects.exists()

    def test_the_subscription_of_a_living_account_is_left_alone(self, erin: Account) -> None:
        account_end(account_id=erin.id)
        assert testing.subscription_of(customer_id(erin))["status"] == "active"


class TestRefusals:
    def test_another_address(self, alice: Account, bob: Account, alice_web: Client) -> None:
        response = delete(alice_web, bob.email)
        assert response.status_code == 400
        assert "Enter alice@example.org" in response.content.decode()
        assert_untouched(alice)
        assert_untouched(bob)

    def test_operators_are_told_where(self, operator: Account) -> None:
        response = delete(logged_in(operator), operator.email)
        assert "Remove its operator rights in the admin first" in response.content.decode()
        assert_untouched(operator)

    def test_nobody_else_loses_anything(
        self, alice: Account, bob: Account, alice_web: Client, bob_api: APIClient
    ) -> None:
        bobs = call_of(bob, 1)
        delete(alice_web, alice.email)
        assert_untouched(bob)
        assert bob_api.get("/api/account").status_code == 200
        bobs.refresh_from_db()
        assert bobs.hangup_requested_at is None


def assert_untouched(account: Account) -> None:
    before = account.email
    account.refresh_from_db()
    assert (account.email, account.is_active, account.closed_at) == (before, True, None)
