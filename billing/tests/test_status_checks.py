"""A check of one account with Stripe, and the schedule that finds what events have not told."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.db import connection
from django.utils import timezone
from djstripe import models as mirror

from accounts.models import Account
from billing import status_checks
from billing.models import StatusChange, StatusCheck, StripeCustomer
from billing.status_checks import page_mark, status_check, status_mark, unsettled_mark
from billing.stripe_api import PaymentsUnavailable
from billing.tests.setting_up import set_up_stripe
from billing.tests.subscribing import check, down, subscribe
from billing.tests.watched import Request, WatchedStripe
from core.tests.rows import refuse
from sandbox.payments import testing

pytestmark = pytest.mark.django_db

A_CUSTOMER = {"object": "customer", "livemode": False, "invoice_prefix": "A1B2C3D4"}


def jobs(task: str = status_checks.TASK) -> list[tuple[dict[str, Any], Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select args, scheduled_at from procrastinate_jobs where task_name = %s order by id",
            [task],
        )
        return [(json.loads(arguments), at) for arguments, at in cursor.fetchall()]


class TestCheck:
    def test_it_works(self, carol: Account, at_stripe: WatchedStripe) -> None:
        subscription = subscribe(carol, at_stripe)
        assert carol.status == "ACTIVE"
        change = StatusChange.objects.get()
        assert (change.before, change.after, change.cause) == ("INACTIVE", "ACTIVE", "test")
        assert change.subscription_id == subscription["id"]
        assert change.subscription_status == "active"
        settled = StatusCheck.objects.get()
        assert (settled.marks, settled.settled) == (1, 1)
        assert settled.settled_at

    def test_it_mirrors_what_stripe_has(self, carol: Account, at_stripe: WatchedStripe) -> None:
        subscription = subscribe(carol, at_stripe)
        mirrored = mirror.Subscription.objects.get()
        assert (mirrored.id, mirrored.status) == (subscription["id"], "active")
        assert mirrored.customer.id == carol.stripe_customer.customer_id
        assert mirror.SubscriptionItem.objects.count() == 2
        subscription["status"] = "past_due"
        check(carol)
        mirrored.refresh_from_db()
        assert mirrored.status == "past_due"

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            ("active", "ACTIVE"),
            ("trialing", "ACTIVE"),
            ("past_due", "SUSPENDED"),
            ("unpaid", "SUSPENDED"),
            ("paused", "SUSPENDED"),
            ("canceled", "INACTIVE"),
            ("incomplete", "INACTIVE"),
            ("incomplete_expired", "INACTIVE"),
        ],
    )
    def test_each_status(
        self, carol: Account, at_stripe: WatchedStripe, status: str, expected: str
    ) -> None:
        subscription = subscribe(carol, at_stripe)
        subscription["status"] = status
        check(carol)
        assert carol.status == expected

    def test_paying_brings_the_account_back(self, carol: Account, at_stripe: WatchedStripe) -> None:
        subscription = subscribe(carol, at_stripe, status="past_due")
        assert carol.status == "SUSPENDED"
        subscription["status"] = "active"
        check(carol)
        assert carol.status == "ACTIVE"
        changes = StatusChange.objects.order_by("id").values_list("before", "after")
        assert list(changes) == [("INACTIVE", "SUSPENDED"), ("SUSPENDED", "ACTIVE")]

    def test_what_an_operator_suspended_stays_so(
        self, carol: Account, at_stripe: WatchedStripe
    ) -> None:
        Account.objects.update(suspended_by_operator=True)
        checkout = StripeCustomer.objects.create(account=carol, customer_id="cus_carol")
        StatusCheck.objects.create(account=carol)
        at_stripe.things[checkout.customer_id] = A_CUSTOMER
        at_stripe.subscribe("cus_carol", at_stripe.all("price"))
        check(carol)
        assert carol.status == "ACTIVE"
        assert carol.suspended_by_operator
        assert carol.effective_status == "SUSPENDED"

    def test_a_subscription_to_something_else_activates_nobody(
        self, carol: Account, at_stripe: WatchedStripe
    ) -> None:
        subscribe(carol, at_stripe, status="canceled")
        _base, minute = at_stripe.all("price")
        at_stripe.subscribe(carol.stripe_customer.customer_id, [minute])
        check(carol)
        assert carol.status == "INACTIVE"

    def test_a_price_of_before_still_counts(
        self, carol: Account, at_stripe: WatchedStripe, settings: Any
    ) -> None:
        subscribe(carol, at_stripe)
        settings.MONTHLY_BASE *= 2
        set_up_stripe()
        check(carol)
        assert carol.status == "ACTIVE"

    def test_without_a_mark_nobody_is_asked(self, carol: Account, at_stripe: WatchedStripe) -> None:
        subscribe(carol, at_stripe)
        at_stripe.requests.clear()
        status_check(carol.id)
        assert at_stripe.requests == []

    def test_nor_without_a_customer(self, alice: Account, at_stripe: WatchedStripe) -> None:
        status_check(alice.id)
        alice.refresh_from_db()
        assert alice.status == "ACTIVE"
        assert at_stripe.requests == []

    def test_a_stripe_that_is_down_changes_nothing(
        self, carol: Account, at_stripe: WatchedStripe
    ) -> None:
        subscribe(carol, at_stripe)
        at_stripe.before = down
        with pytest.raises(PaymentsUnavailable):
            check(carol)
        carol.refresh_from_db()
        assert carol.status == "ACTIVE"
        assert StatusCheck.objects.unsettled().get().account == carol

    def test_the_first_cause_is_the_one(self, carol: Account, at_stripe: WatchedStripe) -> None:
        subscription = subscribe(carol, at_stripe)
        subscription["status"] = "past_due"
        for cause in ("invoice.payment_failed evt_1", "reconciliation"):
            status_mark(account_id=carol.id, cause=cause)
        status_check(carol.id)
        assert StatusChange.objects.latest("id").cause == "invoice.payment_failed evt_1"


class TestDeletedCustomer:
    def test_it_ends_the_subscription(self, carol: Account, at_stripe: WatchedStripe) -> None:
        subscribe(carol, at_stripe)
        testing.delete_customer(carol.stripe_customer.customer_id)
        check(carol)
        assert carol.status == "INACTIVE"
        assert StripeCustomer.objects.get().deleted_at
        assert not mirror.Customer.objects.exists()

    def test_news_of_an_old_customer_touch_no_new_one(
        self, carol: Account, at_stripe: WatchedStripe
    ) -> None:
        """Deleted, subscribed again under another customer; then the old one's check arrives."""
        subscribe(carol, at_stripe)
        testing.delete_customer(carol.stripe_customer.customer_id)
        StatusCheck.objects.all().mark("customer.deleted evt_1")
        question = status_checks.question_of(carol.id)
        snapshot = status_checks.fetch(question.customer_id)
        status_checks.status_apply(question, snapshot)
        carol.refresh_from_db()
        subscribe(carol, at_stripe)
        assert carol.status == "ACTIVE"
        assert not status_checks.status_apply(question, snapshot)
        carol.refresh_from_db()
        assert carol.status == "ACTIVE"

    def test_one_whom_stripe_does_not_know_is_not_cut_off(
        self, carol: Account, at_stripe: WatchedStripe
    ) -> None:
        """As when the key of another Stripe account is set."""
        subscribe(carol, at_stripe)
        del at_stripe.things[carol.stripe_customer.customer_id]
        check(carol)
        assert carol.status == "ACTIVE"
        assert StatusCheck.objects.unsettled().exists()


class TestUnsettled:
    """Every fifteen minutes."""

    @pytest.fixture
    def customer(self, carol: Account, at_stripe: WatchedStripe) -> Account:
        subscribe(carol, at_stripe)
        self.make_older(minutes=10)
        return carol

    def make_older(self, **time: int) -> None:
        StatusCheck.objects.update(marked_at=timezone.now() - timedelta(**time))
        with connection.cursor() as cursor:
            cursor.execute("delete from procrastinate_jobs")

    def test_the_settled_are_left_alone(self, customer: Account) -> None:
        StripeCustomer.objects.update(checkout_at=timezone.now() - timedelta(days=2))
        unsettled_mark()
        assert jobs() == []

    def test_a_mark_whose_job_was_lost_is_checked(self, customer: Account) -> None:
        StatusCheck.objects.all().mark("customer.updated evt_1")
        self.make_older(minutes=10)
        unsettled_mark()
        [(arguments, _)] = jobs()
        assert arguments == {"account_id": customer.id}

    def test_one_that_is_under_way_is_not(self, customer: Account) -> None:
        StatusCheck.objects.all().mark("customer.updated evt_1")
        unsettled_mark()
        assert jobs() == []

    def test_whoever_owes_is_checked(self, customer: Account) -> None:
        Account.objects.update(status="SUSPENDED")
        unsettled_mark()
        assert len(jobs()) == 1

    @pytest.mark.parametrize(("hours", "count"), [(1, 1), (24, 1), (26, 0)])
    def test_whoever_may_be_paying_is_checked(
        self, customer: Account, hours: int, count: int
    ) -> None:
        Account.objects.update(status="INACTIVE")
        StripeCustomer.objects.update(checkout_at=timezone.now() - timedelta(hours=hours))
        unsettled_mark()
        assert len(jobs()) == count

    def test_what_it_finds_is_drift(
        self, customer: Account, at_stripe: WatchedStripe, caplog: pytest.LogCaptureFixture
    ) -> None:
        StripeCustomer.objects.update(checkout_at=timezone.now())
        Account.objects.update(status="INACTIVE")
        unsettled_mark()
        status_check(customer.id)
        customer.refresh_from_db()
        assert customer.status == "ACTIVE"
        assert StatusChange.objects.latest("id").cause == "reconciliation"
        assert "status_drift" in caplog.text

    def test_they_are_bounded_and_take_turns(
        self, customer: Account, bob: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(status_checks, "UNSETTLED_AT_MOST", 1)
        customer_of(bob)
        Account.objects.update(status="SUSPENDED")
        for account in (bob, customer):  # Bob was never marked, Carol was ten minutes ago
            unsettled_mark()
            [(arguments, _)] = jobs()
            assert arguments == {"account_id": account.id}
            with connection.cursor() as cursor:
                cursor.execute("delete from procrastinate_jobs")


def customer_of(account: Account) -> None:
    StripeCustomer.objects.create(account=account, customer_id=f"cus_{account.id}")
    StatusCheck.objects.create(account=account)


class TestNightly:
    @pytest.fixture
    def accounts(
        self, alice: Account, bob: Account, carol: Account, no_jobs: None, monkeypatch: Any
    ) -> list[str]:
        monkeypatch.setattr(status_checks, "PAGE_SIZE", 2)
        for account in (alice, bob, carol):
            customer_of(account)
        return sorted(account.id for account in (alice, bob, carol))

    def test_all_are_checked_page_by_page(self, accounts: list[str], dave: Account) -> None:
        page_mark()
        [(arguments, at)] = jobs(status_checks.PAGE_TASK)
        assert arguments == {"after": accounts[1]}
        assert at > timezone.now()
        page_mark(**arguments)
        assert [arguments["account_id"] for arguments, _ in jobs()] == accounts
        assert len(jobs(status_checks.PAGE_TASK)) == 1  # the second page was the last one

    def test_the_checks_are_spread(self, accounts: list[str]) -> None:
        page_mark()
        (_, first), (_, second) = jobs()
        assert second - first == status_checks.PACE

    def test_what_they_find_is_logged(
        self, accounts: list[str], at_stripe: WatchedStripe, caplog: pytest.LogCaptureFixture
    ) -> None:
        page_mark()
        alice = accounts[0]
        at_stripe.things[f"cus_{alice}"] = A_CUSTOMER
        status_check(alice)
        assert Account.objects.get(pk=alice).status == "INACTIVE"
        assert "status_drift" in caplog.text


def test_one_that_cannot_be_marked_stops_no_other(
    alice: Account, bob: Account, carol: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the others of its page nor the pages behind it."""
    monkeypatch.setattr(status_checks, "PAGE_SIZE", 2)
    first, second, third = sorted([alice, bob, carol], key=lambda account: account.id)
    for account in (first, second, third):
        customer_of(account)
    refuse("billing_statuscheck", f"NEW.account_id = '{first.id}'")
    status_checks.page_mark()
    assert [arguments["account_id"] for arguments, _ in jobs()] == [second.id]
    assert [arguments for arguments, _ in jobs(status_checks.PAGE_TASK)] == [{"after": second.id}]


def test_stripe_in_words_it_does_not_know(carol: Account, at_stripe: WatchedStripe) -> None:
    """A refusal that is about our question is no answer: the job fails, and is seen."""
    subscribe(carol, at_stripe)

    def refuse(request: Request) -> None:
        raise stripe.InvalidRequestError("Received unknown parameter: limit", "limit")

    at_stripe.before = refuse
    with pytest.raises(stripe.InvalidRequestError):
        check(carol)
    assert StatusCheck.objects.unsettled().exists()
