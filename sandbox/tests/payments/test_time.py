"""Time: renewals, retries, and the consequences of not paying."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
import stripe

from sandbox.payments import tasks, testing
from sandbox.payments.business import passing
from sandbox.payments.business.periods import month_from
from sandbox.payments.models import Steering
from sandbox.payments.wire.errors import Refusal
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db


def status(customer: str) -> str:
    return str(testing.subscription_of(customer)["status"])


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


class TestPeriods:
    @pytest.mark.parametrize(
        ("anchor", "start", "end"),
        [
            ("2026-01-15T09:30", "2026-01-15T09:30", "2026-02-15T09:30"),
            ("2026-01-31T00:00", "2026-01-31T00:00", "2026-02-28T00:00"),
            ("2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00"),
            ("2026-12-31T23:59", "2027-01-31T23:59", "2027-02-28T23:59"),
            ("2028-01-31T00:00", "2028-01-31T00:00", "2028-02-29T00:00"),
        ],
    )
    def test_a_month_keeps_its_day(self, anchor: str, start: str, end: str) -> None:
        period = month_from(seconds(start), anchor=seconds(anchor))
        assert period == (seconds(start), seconds(end))


class TestRenewal:
    def test_it_works(self, subscribed: str) -> None:
        before = testing.subscription_of(subscribed)["items"]["data"][0]
        testing.turn_to_renewal(subscribed)
        after = testing.subscription_of(subscribed)["items"]["data"][0]
        assert status(subscribed) == "active"
        assert after["current_period_start"] == before["current_period_end"]
        first, second = testing.invoices_of(subscribed)
        assert (second["billing_reason"], second["status"]) == ("subscription_cycle", "paid")
        assert second["number"].endswith("-0002")
        assert second["created"] == second["period_end"] == before["current_period_end"]
        assert first["status_transitions"]["paid_at"] < second["status_transitions"]["paid_at"]

    def test_the_invoice_is_a_draft_for_an_hour(self, shop: Shop, subscribed: str) -> None:
        end = testing.subscription_of(subscribed)["items"]["data"][0]["current_period_end"]
        testing.turn(subscribed, to=end)
        draft = testing.invoices_of(subscribed)[-1]
        assert (draft["status"], draft["number"], draft["amount_due"]) == ("draft", None, 500)
        shop.use(subscribed, 3, "late", timestamp=end - 1)
        testing.turn(subscribed, to=end + 3600)
        paid = testing.invoices_of(subscribed)[-1]
        assert (paid["status"], paid["amount_paid"], testing.minutes_on(paid)) == ("paid", 515, 3)

    def test_what_is_too_late_is_on_no_invoice(self, shop: Shop, subscribed: str) -> None:
        end = testing.subscription_of(subscribed)["items"]["data"][0]["current_period_end"]
        testing.turn_to_renewal(subscribed)
        shop.use(subscribed, 3, "too late", timestamp=end - 1)
        testing.turn_to_renewal(subscribed)
        assert [testing.minutes_on(each) for each in testing.invoices_of(subscribed)] == [0, 0, 0]

    def test_a_year_in_one_turn(self, subscribed: str) -> None:
        testing.turn(subscribed, days=365.5)
        invoices = testing.invoices_of(subscribed)
        assert len(invoices) == 13
        assert {invoice["status"] for invoice in invoices} == {"paid"}
        made = [invoice["created"] for invoice in invoices]
        assert made == sorted(made)

    def test_of_one_customer_alone(self, shop: Shop, subscribed: str) -> None:
        bob = stripe.Customer.create().id
        testing.pay(shop.checkout(bob).id)
        testing.turn_to_renewal(subscribed)
        assert len(testing.invoices_of(bob)) == 1
        assert abs(stripe.Customer.create().created - time.time()) < 5

    def test_time_passes_by_itself(self, subscribed: str) -> None:
        """A customer's clock keeps running; a job does what has become due."""
        end = testing.subscription_of(subscribed)["items"]["data"][0]["current_period_end"]
        Steering.objects.create(customer_id=subscribed, ahead_s=end + 3601 - int(time.time()))
        tasks.let_time_pass(0)
        assert len(testing.invoices_of(subscribed)) == 2

    def test_never_backwards(self, subscribed: str) -> None:
        testing.turn(subscribed, days=2)
        with pytest.raises(Refusal, match="forward"):
            testing.turn(subscribed, days=-1)

    def test_a_month_that_is_over(self, shop: Shop, customer: str) -> None:
        """A subscription that began in the past has a month of usage behind it, with past
        timestamps.
        """
        testing.start_clock(customer, days=-32)
        testing.pay(shop.checkout(customer).id)
        now = int(time.time())
        for day in range(5):
            shop.use(customer, day, f"CA{day}", timestamp=now - (10 - day) * 86_400)
        testing.turn_to_renewal(customer)
        last = testing.invoices_of(customer)[-1]
        assert last["created"] < now
        assert (testing.minutes_on(last), last["total"]) == (10, 550)


class TestDeclined:
    @pytest.fixture
    def declining(self, subscribed: str) -> str:
        testing.set_card(subscribed, testing.LATER_DECLINED_CARD)
        return subscribed

    def test_it_is_past_due(self, declining: str) -> None:
        testing.turn_to_renewal(declining)
        assert status(declining) == "past_due"
        invoice = testing.invoices_of(declining)[-1]
        assert (invoice["status"], invoice["attempt_count"]) == ("open", 1)
        failed_at = invoice["status_transitions"]["finalized_at"]
        assert invoice["next_payment_attempt"] == failed_at + 3 * 86_400
        assert testing.event_types()[-2:] == [
            "invoice.payment_failed",
            "customer.subscription.updated",
        ]

    def test_paying_brings_it_back(self, declining: str) -> None:
        testing.turn_to_renewal(declining)
        testing.set_card(declining, testing.GOOD_CARD)
        assert status(declining) == "past_due"
        paid = testing.pay_invoice(testing.invoices_of(declining)[-1]["id"])
        assert (paid["status"], paid["next_payment_attempt"]) == ("paid", None)
        assert status(declining) == "active"

    def test_a_retry_brings_it_back(self, declining: str) -> None:
        testing.turn_to_renewal(declining)
        testing.set_card(declining, testing.GOOD_CARD)
        testing.turn_to_next(declining)
        assert testing.invoices_of(declining)[-1]["status"] == "paid"
        assert status(declining) == "active"

    def test_once_for_a_card_that_is_good(self, subscribed: str) -> None:
        testing.steer(subscribed, next_charge="insufficient_funds")
        testing.turn_to_renewal(subscribed)
        assert status(subscribed) == "past_due"
        testing.turn_to_next(subscribed)
        assert status(subscribed) == "active"

    @pytest.mark.parametrize("end", ["canceled", "unpaid", "past_due"])
    def test_after_all_retries(self, declining: str, end: str) -> None:
        testing.steer(declining, dunning_end=end)
        testing.turn_to_renewal(declining)
        testing.turn(declining, days=14.9)
        assert status(declining) == "past_due"
        testing.turn(declining, days=0.2)
        assert status(declining) == end
        invoice = testing.invoices_of(declining)[-1]
        assert (invoice["status"], invoice["attempt_count"]) == ("open", 4)
        assert invoice["next_payment_attempt"] is None

    def test_an_unpaid_one_is_not_charged(self, declining: str) -> None:
        testing.steer(declining, dunning_end="unpaid")
        testing.turn_to_renewal(declining)
        testing.turn(declining, days=16)
        open_one = testing.invoices_of(declining)[-1]
        testing.turn_to_renewal(declining)
        draft = testing.invoices_of(declining)[-1]
        assert (draft["status"], draft["auto_advance"]) == ("draft", False)
        testing.set_card(declining, testing.GOOD_CARD)
        testing.pay_invoice(open_one["id"])
        assert status(declining) == "active"

    def test_a_cancelled_one_is_not_collected(self, declining: str) -> None:
        testing.turn_to_renewal(declining)
        testing.cancel(declining)
        testing.turn(declining, days=60)
        invoices = testing.invoices_of(declining)
        assert [(each["status"], each["attempt_count"]) for each in invoices] == [
            ("paid", 1),
            ("open", 1),
        ]
        assert passing.next_due(declining) is None
