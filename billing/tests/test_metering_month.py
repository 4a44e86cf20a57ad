"""A month of calls, from the usage record to the invoice, against the payments sandbox.

The customer's clock at Stripe starts a month ago, and is turned on; calls lie in that month.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
import stripe
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from accounts.models import Account
from billing.checkout import checkout_open
from billing.customers import customer_of
from billing.metering.comparison import page_compare
from billing.metering.events import meter_event_send_again
from billing.metering.problems import error_report, error_report_read
from billing.metering.tasks import meter_usage
from billing.models import MeterEvent, MeterProblem
from billing.status_checks import status_check, status_mark
from billing.tests.setting_up import set_up_stripe
from billing.tests.watched import Killed
from sandbox.payments import steering, testing
from sandbox.payments.business import clock, invoicing
from sandbox.payments.models import Fault, MeterReading, StripeObject
from usage.models import UsageRecord
from usage.services import usage_record_create

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_jobs")]

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_numbers = count(1)


class Subscriber:
    """An account that began to pay a month ago, and time as it passes for it at Stripe.

    Its first period ended yesterday, or a few days earlier when the months' lengths want it so.
    """

    def __init__(self, account: Account) -> None:
        set_up_stripe()
        self.account = account
        self.customer_id = customer_of(account).customer_id
        testing.start_clock(self.customer_id, days=(_a_month_ago() - timezone.now()) / DAY)
        testing.pay(checkout_open(account=account))
        self.settle()

    def settle(self) -> None:
        """Let us learn what has happened at Stripe."""
        status_mark(account_id=self.account.id, cause="test")
        status_check(self.account.id)
        self.account.refresh_from_db()

    @property
    def period(self) -> tuple[datetime, datetime]:
        item = testing.subscription_of(self.customer_id)["items"]["data"][0]
        start, end = item["current_period_start"], item["current_period_end"]
        return datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)

    def call(self, seconds: int, ended_at: datetime) -> UsageRecord:
        with transaction.atomic():
            return usage_record_create(
                account_id=self.account.id,
                call_sid=f"CA{next(_numbers):032x}",
                direction="inbound",
                caller_phone="+15550001111",
                called_number="+15551234567",
                duration_seconds=seconds,
                billed_seconds=seconds,
                twilio_cost=Decimal(0),
                openai_cost=Decimal(0),
                ended_at=ended_at,
            )

    def month_of_calls(self) -> None:
        """Calls of all lengths, the first and the last as close to the period's ends as can be."""
        start, end = self.period
        self.call(61, start)
        for number in range(1, 30):
            self.call(number * 37, start + number * (end - start) / 30)
        self.call(1, end - SECOND)

    def renew(self) -> dict[str, Any]:
        """Let the period end and its invoice be paid; return it."""
        testing.turn_to_renewal(self.customer_id)
        self.settle()
        return self.invoices[-1]

    @property
    def invoices(self) -> list[dict[str, Any]]:
        return testing.invoices_of(self.customer_id)

    def assert_all_agree(self) -> None:
        """Usage records, meter events and Stripe's meter have the same, call by call."""
        records = UsageRecord.objects.filter(account=self.account, minutes__gt=0)
        used = dict(records.values_list("call_sid", "minutes"))
        sent = MeterEvent.objects.filter(account=self.account, state=MeterEvent.State.SENT)
        assert dict(sent.values_list("identifier", "minutes")) == used
        assert sorted(testing.meter_events(self.customer_id)) == sorted(used.items())
        assert not MeterEvent.objects.unsent().exists()

    @property
    def minutes(self) -> int:
        records = UsageRecord.objects.filter(account=self.account)
        return int(records.aggregate(minutes=Sum("minutes"))["minutes"])


def _a_month_ago() -> datetime:
    yesterday = timezone.now() - DAY
    last_month = yesterday.replace(day=1) - DAY
    days = monthrange(last_month.year, last_month.month)[1]
    return last_month.replace(day=min(yesterday.day, days))


@pytest.fixture
def subscriber(carol: Account) -> Subscriber:
    return Subscriber(carol)


def report_usage() -> None:
    """Do what the worker does every minute."""
    meter_usage(timestamp=0)


def lease_ends() -> None:
    MeterEvent.objects.unsent().update(next_attempt_at=timezone.now())


def an_hour_passes() -> None:
    """Stripe has counted what was sent."""
    for sent in MeterEvent.objects.exclude(sent_at=None):
        MeterEvent.objects.filter(pk=sent.pk).update(sent_at=(sent.sent_at or HOUR) - 2 * HOUR)


def compare() -> list[tuple[str, dict[str, Any]]]:
    """Compare, and return all problems there are."""
    an_hour_passes()
    page_compare()
    return list(MeterProblem.objects.values_list("kind", "detail"))


def test_it_works(subscriber: Subscriber) -> None:
    assert subscriber.account.status == "ACTIVE"
    subscriber.month_of_calls()
    report_usage()
    subscriber.assert_all_agree()
    invoice = subscriber.renew()
    assert testing.minutes_on(invoice) == subscriber.minutes == 286
    assert invoice["amount_due"] == 500 + 5 * subscriber.minutes
    assert invoice["status"] == "paid"
    assert compare() == []


@pytest.mark.parametrize(
    ("base", "rate"), [("5", "0.05"), ("49.99", "0.0125"), ("0.01", "0.000001"), ("29", "0.07")]
)
def test_the_amount_is_right_to_the_cent(
    carol: Account, settings: Any, base: str, rate: str
) -> None:
    settings.MONTHLY_BASE, settings.PER_MINUTE_RATE = Decimal(base), Decimal(rate)
    subscriber = Subscriber(carol)
    subscriber.month_of_calls()
    report_usage()
    invoice = subscriber.renew()
    exact = Decimal(base) * 100 + (Decimal(rate) * 100 * subscriber.minutes).quantize(
        Decimal(1), "ROUND_HALF_UP"
    )
    assert invoice["amount_due"] == exact


def test_nothing_used_is_nothing_to_pay_for(subscriber: Subscriber) -> None:
    subscriber.call(0, subscriber.period[0] + DAY)
    report_usage()
    invoice = subscriber.renew()
    assert (testing.minutes_on(invoice), invoice["amount_due"]) == (0, 500)


def test_each_period_has_its_own(subscriber: Subscriber) -> None:
    _, end = subscriber.period
    subscriber.call(120, end - SECOND)
    subscriber.call(180, end)
    report_usage()
    assert testing.minutes_on(subscriber.renew()) == 2
    testing.turn_to_renewal(subscriber.customer_id)
    assert testing.minutes_on(subscriber.invoices[-1]) == 3


class TestLate:
    def test_a_draft_has_what_was_reported_after_the_period(
        self, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(invoicing, "DRAFT_S", 7 * clock.DAY)
        subscriber.month_of_calls()
        testing.turn_to_next(subscriber.customer_id)
        subscriber.settle()
        assert subscriber.invoices[-1]["status"] == "draft"
        report_usage()
        testing.turn_to_next(subscriber.customer_id)
        invoice = subscriber.invoices[-1]
        assert invoice["status"] == "paid"
        assert testing.minutes_on(invoice) == subscriber.minutes

    def test_the_worker_was_down_when_the_invoice_became_final(
        self, subscriber: Subscriber
    ) -> None:
        """No minute is lost: the next invoice has it."""
        start, end = subscriber.period
        subscriber.call(60, start + DAY)
        report_usage()
        subscriber.call(300, end - SECOND)
        assert testing.minutes_on(subscriber.renew()) == 1
        report_usage()
        subscriber.assert_all_agree()
        testing.turn_to_renewal(subscriber.customer_id)
        assert testing.minutes_on(subscriber.invoices[-1]) == 5
        assert compare() == []


class TestAfterTheEnd:
    def test_what_no_invoice_has_is_flagged(self, subscriber: Subscriber) -> None:
        start, end = subscriber.period
        subscriber.call(60, start + DAY)
        report_usage()
        testing.cancel(subscriber.customer_id, at_period_end=True)
        subscriber.settle()
        testing.turn(subscriber.customer_id, to=int(end.timestamp()))
        subscriber.settle()
        assert subscriber.account.status == "INACTIVE"
        invoice = subscriber.invoices[-1]
        assert testing.minutes_on(invoice) == 1
        late = subscriber.call(600, end + SECOND)
        report_usage()
        subscriber.assert_all_agree()
        detail = {"call": late.call_sid, "minutes": 10}
        assert compare() == [("after-cancellation", detail)]

    def test_so_it_is_before_we_know_of_the_end(self, subscriber: Subscriber) -> None:
        """The webhook is on its way still."""
        testing.turn_to_renewal(subscriber.customer_id)
        subscriber.settle()
        testing.cancel(subscriber.customer_id)
        late = subscriber.call(600, timezone.now())
        report_usage()
        assert not MeterProblem.objects.exists()
        subscriber.settle()
        detail = {"call": late.call_sid, "minutes": 10}
        assert compare() == [("after-cancellation", detail)]

    def test_so_is_a_last_period_without_an_invoice(self, subscriber: Subscriber) -> None:
        """An operator cancels at once, and asks for no invoice."""
        testing.turn_to_renewal(subscriber.customer_id)
        subscriber.settle()
        subscriber.call(240, subscriber.period[0] + HOUR / 2)
        report_usage()
        subscription_id = testing.subscription_of(subscriber.customer_id)["id"]
        stripe.Subscription.cancel(subscription_id)
        subscriber.settle()
        detail = {"subscription": subscription_id, "minutes": 4}
        assert compare() == [("after-cancellation", detail)]


class TestComparison:
    def test_what_stripe_has_lost_is_found(self, subscriber: Subscriber) -> None:
        start, _ = subscriber.period
        for number in range(3):
            subscriber.call(60, start + number * DAY)
        report_usage()
        MeterReading.objects.filter(customer_id=subscriber.customer_id).first().delete()  # type: ignore[union-attr]
        [(kind, detail)] = compare()
        assert kind == "difference"
        assert (detail["settled"], detail["stripes"]) == (3, 2)

    def test_stripe_reports_what_it_could_not_count(self, subscriber: Subscriber) -> None:
        """The customer is gone from Stripe, and we have not heard of it."""
        record = subscriber.call(60, subscriber.period[0] + DAY)
        StripeObject.objects.filter(id=subscriber.customer_id).delete()
        report_usage()
        thin = StripeObject.objects.of("v2.core.event").get()
        error_report(thin.body["id"])
        error_report_read(thin.id)
        event = MeterEvent.objects.get(pk=record.call_sid)
        assert event.state == "refused"
        assert event.last_error.startswith("meter_event_customer_not_found")
        problem = MeterProblem.objects.get()
        assert problem.key == thin.id
        assert problem.detail["errors"][0]["identifiers"] == [record.call_sid]

    def test_what_was_reported_is_a_duplicate_for_a_day(self, subscriber: Subscriber) -> None:
        """So that an operator who sends it again waits for so long: docs/operations.md says so."""
        record = subscriber.call(60, subscriber.period[0] + DAY)
        StripeObject.objects.filter(id=subscriber.customer_id).delete()
        report_usage()
        thin = StripeObject.objects.of("v2.core.event").get()
        error_report(thin.body["id"])
        error_report_read(thin.id)
        assert meter_event_send_again(identifier=record.call_sid)
        report_usage()
        assert MeterEvent.objects.get().state == "sent"  # and Stripe has not counted it


class TestFaults:
    @pytest.mark.parametrize("kind", list(Fault.Kind))
    def test_stripe_fails_now_and_then(self, subscriber: Subscriber, kind: Fault.Kind) -> None:
        start, _ = subscriber.period
        for number in range(6):
            subscriber.call(100, start + number * DAY)
        steering.fail(kind, method="POST", path="/v1/billing/meter_events", times=5)
        for _ in range(6):
            report_usage()
            lease_ends()
        subscriber.assert_all_agree()
        assert testing.minutes_on(subscriber.renew()) == 12


class DyingClient(stripe.HTTPClient):
    """The sandbox, asked by a worker that dies at one of its steps: a query or a request."""

    name = "dying"

    def __init__(self, sandbox: stripe.HTTPClient) -> None:
        super().__init__()
        self.sandbox = sandbox
        self.is_at_stripe = False
        self.count = self.dies_at = 0
        self.when_done = False

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self._step(is_done=False)
        self.is_at_stripe = True
        try:
            answer = self.sandbox.request(*args, **kwargs)
        finally:
            self.is_at_stripe = False
        self._step(is_done=True)
        return answer

    def close(self) -> None:
        pass

    @contextmanager
    def dying(self, at: int, *, when_done: bool) -> Iterator[None]:
        self.count, self.dies_at, self.when_done = 0, at, when_done
        with connection.execute_wrapper(self._query):
            yield
        self.dies_at = 0

    def _query(self, execute: Callable[..., Any], *query: Any) -> Any:
        if self.is_at_stripe:
            return execute(*query)
        self._step(is_done=False)
        result = execute(*query)
        self._step(is_done=True)
        return result

    def _step(self, *, is_done: bool) -> None:
        self.count += not is_done
        if self.count == self.dies_at and is_done == self.when_done:
            raise Killed


@pytest.mark.parametrize("when_done", [False, True])
def test_the_worker_dies_at_every_step(
    subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch, when_done: bool
) -> None:
    """One death after another, each a step later than the last; calls come in meanwhile."""
    client = DyingClient(stripe.default_http_client)  # type: ignore[arg-type]
    monkeypatch.setattr(stripe, "default_http_client", client)
    start, _ = subscriber.period
    deaths = 0
    for step in range(1, 60):
        subscriber.call(step * 13, start + step * 7 * HOUR)
        with suppress(Killed), client.dying(step, when_done=when_done):
            report_usage()
            continue
        deaths += 1
        lease_ends()
    lease_ends()
    report_usage()
    subscriber.assert_all_agree()
    assert 15 < deaths < 58  # at each step that there is, and then it died no more
    invoice = subscriber.renew()
    assert testing.minutes_on(invoice) == subscriber.minutes
    assert invoice["amount_due"] == 500 + 5 * subscriber.minutes
    assert compare() == []
