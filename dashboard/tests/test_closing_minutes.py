"""An account is deleted while it calls: each minute is paid for, whatever happens on the way.

Against the payments sandbox. The account pays its second month, of which a day or more is over.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
import stripe
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import Account
from billing.closing import PATIENCE
from billing.metering.comparison import page_compare
from billing.metering.tasks import meter_usage
from billing.models import MeterEvent, MeterProblem
from billing.status_checks import status_mark
from billing.stripe_api import PaymentsUnavailable
from billing.tasks import check_status
from billing.tests.setting_up import set_up_stripe
from billing.tests.test_metering_month import DyingClient, Subscriber
from billing.tests.watched import Killed
from core.tests.poisons import IS_SHORT
from dashboard.tests.live import hang_up, live_call_of
from dashboard.tests.mails import jobs
from operations.closing import CALLS_END_WITHIN, account_delete, account_end
from sandbox.payments import steering, testing
from sandbox.payments.models import Fault, MeterReading, StripeObject
from telephony.models import Call
from usage.models import UsageRecord

pytestmark = pytest.mark.django_db

END = "dashboard.tasks.end_account"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LENGTHS = (1, 7, 58)
USED = 2 + 3 + sum(LENGTHS)
_numbers = count(1000)


@pytest.fixture
def subscriber(carol: Account, monkeypatch: pytest.MonkeyPatch) -> Subscriber:
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    set_up_stripe()
    steering.hold()
    subscriber = Subscriber(carol)
    testing.turn_to_renewal(subscriber.customer_id)
    # Not behind ours, however long the turn takes: what is used later than its now is not charged.
    testing.turn(subscriber.customer_id, to=int(timezone.now().timestamp()) + 60)
    subscriber.settle()
    jobs(END)
    assert len(subscriber.invoices) == 2
    return subscriber


@pytest.fixture
def calls(subscriber: Subscriber) -> list[Call]:
    """Three that are on; two others of the month have ended."""
    start, _ = subscriber.period
    subscriber.call(61, start + MINUTE)
    subscriber.call(180, timezone.now())
    return [live_call_of(subscriber.account, next(_numbers), minutes=each) for each in LENGTHS]


def delete(subscriber: Subscriber) -> None:
    """Delete the account a minute ago."""
    account_delete(account=subscriber.account)
    later(MINUTE)


def later(time: timedelta) -> None:
    Account.objects.exclude(closed_at=None).update(closed_at=F("closed_at") - time)


def look(subscriber: Subscriber) -> bool:
    """Do the job that waits; return whether another one waits after it."""
    assert jobs(END) == [(END, {"account_id": subscriber.account.id})]
    account_end(account_id=subscriber.account.id)
    return is_queued()


def is_queued() -> bool:
    return ProcrastinateJob.objects.filter(task_name=END, status="todo").exists()


def status_of(subscriber: Subscriber) -> str:
    return str(testing.subscription_of(subscriber.customer_id)["status"])


def assert_all_is_paid(subscriber: Subscriber, minutes: int = USED) -> None:
    """The subscription has ended, and its last invoice has all minutes, to the cent."""
    assert status_of(subscriber) == "canceled"
    [first, renewal, last] = subscriber.invoices
    assert [invoice["status"] for invoice in (first, renewal, last)] == ["paid"] * 3
    assert [invoice["amount_paid"] for invoice in (first, renewal)] == [500, 500]
    assert testing.minutes_on(last) == minutes
    assert last["amount_paid"] == 5 * minutes
    subscriber.assert_all_agree()
    assert not MeterProblem.objects.exists()


def test_it_works(subscriber: Subscriber, calls: list[Call]) -> None:
    delete(subscriber)
    assert look(subscriber)
    for call in calls[:2]:
        hang_up(call)
        assert look(subscriber)
        assert status_of(subscriber) == "active"
    hang_up(calls[2])
    assert not look(subscriber)
    assert_all_is_paid(subscriber)


def test_a_call_that_was_let_in_at_the_same_moment_is_hung_up_too(
    subscriber: Subscriber, calls: list[Call]
) -> None:
    account_delete(account=subscriber.account)
    for call in calls:
        hang_up(call)
    assert look(subscriber)
    assert status_of(subscriber) == "active", "There may be more of them."
    late = live_call_of(subscriber.account, next(_numbers), minutes=1)
    later(MINUTE)
    assert look(subscriber)
    hang_up(late)
    assert not look(subscriber)
    assert_all_is_paid(subscriber, USED + 1)


def test_it_looks_often_at_first(subscriber: Subscriber, calls: list[Call]) -> None:
    account_delete(account=subscriber.account)
    waits = []
    for passed in (0 * MINUTE, 2 * MINUTE, HOUR):
        later(passed)
        look(subscriber)
        job = ProcrastinateJob.objects.get(task_name=END)
        waits.append(round((job.scheduled_at - timezone.now()).total_seconds()))
    assert waits == [3, 15, 60]


def test_a_check_of_the_status_does_not_end_it_sooner(
    subscriber: Subscriber, calls: list[Call]
) -> None:
    delete(subscriber)
    status_mark(account_id=subscriber.account.id, cause="test")
    check_status(subscriber.account.id)
    assert look(subscriber)
    assert status_of(subscriber) == "active"


@pytest.mark.parametrize("when_done", [False, True])
def test_the_worker_dies_at_every_step(
    subscriber: Subscriber,
    calls: list[Call],
    monkeypatch: pytest.MonkeyPatch,
    when_done: bool,
) -> None:
    delete(subscriber)
    for call in calls:
        hang_up(call)
    client = DyingClient(stripe.default_http_client)  # type: ignore[arg-type]
    monkeypatch.setattr(stripe, "default_http_client", client)
    # In the short form every fourth step, and those between them when it is done.
    first, apart = (1 + 2 * when_done, 4) if IS_SHORT else (1, 1)
    for step in count(first, apart):
        with transaction.atomic():
            died = True
            with suppress(Killed), client.dying(step, when_done=when_done):
                account_end(account_id=subscriber.account.id)
                died = False
            account_end(account_id=subscriber.account.id)  # as a stalled job is done again
            assert_all_is_paid(subscriber)
            transaction.set_rollback(True)
        if not died:
            break
    assert step > 20


class TestStripe:
    @pytest.fixture(autouse=True)
    def ended(self, subscriber: Subscriber, calls: list[Call]) -> None:
        delete(subscriber)
        for call in calls:
            hang_up(call)

    def test_what_it_has_taken_and_not_counted_is_waited_for(self, subscriber: Subscriber) -> None:
        meter_usage(timestamp=0)
        readings = list(MeterReading.objects.all())
        MeterReading.objects.all().delete()
        assert look(subscriber)
        assert status_of(subscriber) == "active"
        MeterReading.objects.bulk_create(readings)
        assert not look(subscriber)
        assert_all_is_paid(subscriber)

    def test_but_not_for_longer_than_it_takes(self, subscriber: Subscriber) -> None:
        """The nightly comparison tells an operator."""
        meter_usage(timestamp=0)
        MeterReading.objects.first().delete()  # type: ignore[union-attr]
        assert look(subscriber)
        MeterEvent.objects.update(sent_at=timezone.now() - HOUR - MINUTE)
        assert not look(subscriber)
        assert status_of(subscriber) == "canceled"
        page_compare()
        assert MeterProblem.objects.get().kind == MeterProblem.Kind.DIFFERENCE

    def test_an_outage_only_delays_it(self, subscriber: Subscriber) -> None:
        fault = steering.fail(Fault.Kind.UNREACHABLE)
        meter_usage(timestamp=0)
        later(3 * PATIENCE)
        UsageRecord.objects.update(created_at=F("created_at") - 3 * PATIENCE)
        with pytest.raises(PaymentsUnavailable):
            look(subscriber)
        MeterEvent.objects.update(next_attempt_at=timezone.now() + HOUR)
        fault.delete()
        account_end(account_id=subscriber.account.id)
        assert_all_is_paid(subscriber)

    def test_what_it_does_not_take_is_told_to_an_operator(self, subscriber: Subscriber) -> None:
        steering.fail(Fault.Kind.BROKEN, method="POST", path="/v1/billing/meter_events")
        assert look(subscriber)
        assert status_of(subscriber) == "active"
        later(PATIENCE)
        UsageRecord.objects.update(created_at=F("created_at") - PATIENCE - MINUTE)
        assert not look(subscriber)
        assert status_of(subscriber) == "canceled"
        problem = MeterProblem.objects.get()
        assert problem.kind == MeterProblem.Kind.AFTER_CANCELLATION
        assert problem.detail == {"minutes": USED, "live_calls": 0}

    def test_a_month_that_begins_meanwhile_is_not_charged(self, subscriber: Subscriber) -> None:
        testing.turn_to_next(subscriber.customer_id)
        assert subscriber.invoices[-1]["status"] == "draft"
        for _ in range(2):
            account_end(account_id=subscriber.account.id)
        assert status_of(subscriber) == "canceled"
        [_, _, last] = subscriber.invoices
        assert (testing.minutes_on(last), last["amount_paid"]) == (USED, 500 + 5 * USED)
        [refund] = StripeObject.objects.of("refund")
        assert refund["amount"] == 500
        assert last["metadata"] == {"month_refunded": "500"}


def test_a_call_that_does_not_end_is_told_to_an_operator(
    subscriber: Subscriber, calls: list[Call]
) -> None:
    delete(subscriber)
    for call in calls[:2]:
        hang_up(call)
    later(CALLS_END_WITHIN)
    assert not look(subscriber)
    assert status_of(subscriber) == "canceled"
    problem = MeterProblem.objects.get()
    assert problem.kind == MeterProblem.Kind.AFTER_CANCELLATION
    assert problem.detail == {"minutes": 0, "live_calls": 1}


def test_a_draft_of_the_month_before_is_paid_too(carol: Account) -> None:
    """Deleted in the hour in which a month that has just ended waits for its last minutes."""
    steering.hold()
    subscriber = Subscriber(carol)
    subscriber.call(600, subscriber.period[0] + HOUR)
    meter_usage(timestamp=0)
    testing.turn_to_next(subscriber.customer_id)
    subscriber.settle()
    _, draft = subscriber.invoices
    assert draft["status"] == "draft"
    jobs(END)
    account_delete(account=subscriber.account)
    Account.objects.exclude(closed_at=None).update(
        closed_at=datetime.fromtimestamp(draft["created"], UTC) + MINUTE
    )
    assert not look(subscriber)
    assert status_of(subscriber) == "canceled"
    _, paid = subscriber.invoices
    assert (paid["status"], paid["amount_paid"]) == ("paid", 500 + 5 * 10)
    assert not StripeObject.objects.of("refund").exists()
