"""Our minutes beside Stripe's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from djstripe import models as mirror

from accounts.models import Account
from billing.metering import comparison
from billing.metering.comparison import page_compare
from billing.metering.events import meter_events_send
from billing.models import MeterEvent, MeterProblem
from billing.stripe_api import PaymentsUnavailable
from billing.tests.metered import (
    add_subscription,
    become_customer,
    event,
    invoice,
    seconds,
    set_up_meter,
    subscription,
)
from billing.tests.watched import Answer, Request, WatchedStripe, failure, refusal
from core.tests.rows import refuse

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_jobs")]

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def meter() -> None:
    set_up_meter()


def sent(
    account: Account, minutes: int, meter: WatchedStripe | None, *, ago: timedelta = DAY
) -> MeterEvent:
    """An event that was sent then; ``meter`` has counted it, unless there is none."""
    at = timezone.now() - ago
    written = event(account, minutes, happened_at=at, state="sent", sent_at=at)
    if meter:
        meter.has_counted(written.identifier, minutes, seconds(at))
    return written


def summaries(meter: WatchedStripe) -> list[dict[str, str]]:
    return [request.params for request in meter.requests if "summaries" in request.path]


def jobs() -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select args ->> 'after' from procrastinate_jobs"
            " where task_name = 'billing.metering.tasks.compare_page'"
        )
        return [after for (after,) in cursor.fetchall()]


class TestDifference:
    @pytest.fixture(autouse=True)
    def customer(self, alice: Account) -> None:
        become_customer(alice, subscription(begins=timezone.now() - 10 * DAY))

    def test_there_is_none(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        for minutes in (3, 4):
            sent(alice, minutes, stripes_meter)
        page_compare()
        assert len(summaries(stripes_meter)) == 1
        assert not MeterProblem.objects.exists()

    def test_stripe_has_less(
        self, alice: Account, stripes_meter: WatchedStripe, caplog: pytest.LogCaptureFixture
    ) -> None:
        sent(alice, 3, stripes_meter)
        sent(alice, 4, None)
        page_compare()
        [problem] = MeterProblem.objects.all()
        assert (problem.kind, problem.account) == ("difference", alice)
        assert problem.detail["settled"] == 7
        assert problem.detail["stripes"] == 3
        assert [record.levelname for record in caplog.records] == ["ERROR"]

    def test_stripe_has_more(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        written = sent(alice, 3, stripes_meter)
        stripes_meter.has_counted("CA again", 3, seconds(written.happened_at))
        page_compare()
        assert MeterProblem.objects.get().detail["stripes"] == 6

    def test_what_stripe_has_refused_is_not_expected_of_it(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        sent(alice, 3, stripes_meter)
        event(alice, 4, happened_at=timezone.now() - DAY, state="refused")
        page_compare()
        assert not MeterProblem.objects.exists()

    def test_one_period_is_one_problem(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        sent(alice, 3, None)
        page_compare()
        sent(alice, 4, None)
        page_compare()
        [problem] = MeterProblem.objects.all()
        assert problem.detail["settled"] == 7

    def test_it_is_resolved_when_it_vanishes(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        written = sent(alice, 3, None)
        page_compare()
        stripes_meter.has_counted(written.identifier, 3, seconds(written.happened_at))
        page_compare()
        problem = MeterProblem.objects.get()
        assert problem.resolved_at
        assert problem.detail["stripes"] == 3

    def test_it_comes_back(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        written = sent(alice, 3, None)
        page_compare()
        stripes_meter.has_counted(written.identifier, 3, seconds(written.happened_at))
        page_compare()
        stripes_meter.forget_events()
        page_compare()
        assert MeterProblem.objects.get().resolved_at is None

    @pytest.mark.parametrize("has_counted", [False, True])
    def test_what_is_under_way_is_none(
        self, alice: Account, stripes_meter: WatchedStripe, has_counted: bool
    ) -> None:
        """Stripe counts in its own time, and an answer may be missing."""
        meter = stripes_meter if has_counted else None
        sent(alice, 3, stripes_meter)
        sent(alice, 4, meter, ago=HOUR / 2)
        lost = sent(alice, 5, meter, ago=2 * HOUR)
        MeterEvent.objects.filter(pk=lost.pk).update(
            state="pending", sent_at=None, first_attempt_at=lost.happened_at
        )
        page_compare()
        assert not MeterProblem.objects.exists()

    def test_what_was_never_sent_is_not_there(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        event(alice, 5, happened_at=timezone.now() - DAY)
        stripes_meter.has_counted("CA of somebody else", 5, seconds(timezone.now() - DAY))
        page_compare()
        assert MeterProblem.objects.get().detail["in_doubt"] == 0

    def test_accounts_are_not_mixed_up(
        self, alice: Account, bob: Account, stripes_meter: WatchedStripe
    ) -> None:
        become_customer(bob, subscription(id="sub_2"), id="cus_2")
        sent(alice, 3, stripes_meter)
        sent(bob, 4, None)
        page_compare()
        assert MeterProblem.objects.get().account == bob

    def test_stripe_being_down_is_no_difference(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        sent(alice, 3, None)
        stripes_meter.before = lambda request: failure(503)
        with pytest.raises(PaymentsUnavailable):
            page_compare()
        assert not MeterProblem.objects.exists()

    def test_an_account_that_stripe_does_not_know_stops_nobody(
        self,
        alice: Account,
        bob: Account,
        stripes_meter: WatchedStripe,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        become_customer(bob, subscription(id="sub_2"), id="cus_2")
        sent(bob, 4, None)

        def refuse(request: Request) -> Answer | None:
            is_alices = request.params["customer"] == "cus_1"
            return refusal("No such customer: 'cus_1'") if is_alices else None

        stripes_meter.before = refuse
        page_compare()
        assert MeterProblem.objects.get().account == bob
        assert "No such customer: 'cus_1'" in caplog.text


class TestPeriods:
    def test_both_sides_of_a_renewal_are_compared(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        now = timezone.now()
        renewed = now - 2 * DAY
        period = (renewed, renewed + 30 * DAY)
        become_customer(alice, subscription(begins=renewed - 31 * DAY, period=period))
        sent(alice, 3, stripes_meter)
        sent(alice, 4, None, ago=3 * DAY)
        page_compare()
        assert len(summaries(stripes_meter)) == 2
        problem = MeterProblem.objects.get()
        assert problem.detail["settled"] == 4

    def test_it_asks_for_the_minutes_of_the_period(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        begins = timezone.now() - 10 * DAY
        become_customer(alice, subscription(begins=begins))
        page_compare()
        [asked] = summaries(stripes_meter)
        assert asked["customer"] == "cus_1"
        assert int(asked["start_time"]) == seconds(begins.replace(second=0))
        assert 0 <= int(asked["end_time"]) - seconds(timezone.now()) <= 60

    def test_an_account_without_a_subscription_is_left_alone(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        become_customer(alice)
        page_compare()
        assert stripes_meter.requests == []


class TestPages:
    def test_all_accounts_are_compared(
        self,
        alice: Account,
        bob: Account,
        carol: Account,
        stripes_meter: WatchedStripe,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(comparison, "PAGE_SIZE", 2)
        for number, account in enumerate([alice, bob, carol]):
            become_customer(account, subscription(id=f"sub_{number}"), id=f"cus_{number}")
        page_compare()
        [after] = jobs()
        assert len(summaries(stripes_meter)) == 2
        page_compare(after)
        assert {params["customer"] for params in summaries(stripes_meter)} == {
            "cus_0",
            "cus_1",
            "cus_2",
        }
        assert jobs() == [after]


class TestAfterTheEnd:
    """We learned of a subscription's end when a later call had been sent already."""

    def ended(
        self, alice: Account, meter: WatchedStripe, at: datetime, *, has_invoice: bool = True
    ) -> None:
        begins = at - 5 * DAY
        latest_invoice = invoice("paid", begins, end=at if has_invoice else begins)
        ended = subscription(begins=begins, period=(begins, at), ended_at=seconds(at))
        become_customer(alice, ended)
        meter.things["sub_1"] = ended | {"latest_invoice": latest_invoice}

    def test_it_is_flagged(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        self.ended(alice, stripes_meter, timezone.now() - 2 * DAY)
        sent(alice, 3, stripes_meter, ago=3 * DAY)
        late = sent(alice, 4, stripes_meter, ago=DAY)
        page_compare()
        [problem] = MeterProblem.objects.all()
        assert (problem.kind, problem.account) == ("after-cancellation", alice)
        assert problem.detail == {"call": late.identifier, "minutes": 4}

    def test_it_is_flagged_once(
        self, alice: Account, stripes_meter: WatchedStripe, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.ended(alice, stripes_meter, timezone.now() - 2 * DAY)
        sent(alice, 4, stripes_meter, ago=DAY)
        page_compare()
        MeterProblem.objects.update(resolved_at=timezone.now())
        caplog.clear()
        page_compare()
        assert MeterProblem.objects.get().resolved_at
        assert caplog.records == []

    def test_another_subscription_pays(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        now = timezone.now()
        self.ended(alice, stripes_meter, now - 3 * DAY)
        add_subscription("cus_1", subscription(id="sub_2", begins=now - 2 * DAY))
        sent(alice, 1, stripes_meter, ago=4 * DAY)
        between = sent(alice, 2, stripes_meter, ago=2.5 * DAY)
        sent(alice, 3, stripes_meter, ago=DAY)
        page_compare()
        [problem] = MeterProblem.objects.all()
        assert problem.detail["call"] == between.identifier

    def test_a_last_period_without_an_invoice_is_flagged(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        """An operator cancelled it at once, and asked for no invoice."""
        self.ended(alice, stripes_meter, timezone.now() - 2 * DAY, has_invoice=False)
        sent(alice, 3, stripes_meter, ago=3 * DAY)
        sent(alice, 4, stripes_meter, ago=4 * DAY)
        page_compare()
        [problem] = MeterProblem.objects.all()
        assert (problem.kind, problem.account) == ("after-cancellation", alice)
        assert problem.detail == {"subscription": "sub_1", "minutes": 7}

    def test_without_minutes_it_is_none(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        self.ended(alice, stripes_meter, timezone.now() - 2 * DAY, has_invoice=False)
        page_compare()
        assert not MeterProblem.objects.exists()

    def test_a_double_that_was_undone_leaves_its_minutes_to_the_other(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        now = timezone.now()
        self.ended(alice, stripes_meter, now - 2 * DAY, has_invoice=False)
        add_subscription("cus_1", subscription(id="sub_2", begins=now - 8 * DAY))
        sent(alice, 3, stripes_meter, ago=3 * DAY)
        page_compare()
        assert not MeterProblem.objects.exists()

    def test_what_was_flagged_when_it_was_sent_is_not_flagged_again(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        become_customer(alice)
        event(alice)
        meter_events_send()
        page_compare()
        assert MeterProblem.objects.filter(kind="after-cancellation").count() == 1


def test_one_that_cannot_be_compared_stops_no_other(
    alice: Account,
    bob: Account,
    carol: Account,
    stripes_meter: WatchedStripe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither one whose subscription cannot be read, nor one whose problem cannot be written."""
    monkeypatch.setattr(comparison, "PAGE_SIZE", 3)
    accounts = sorted([alice, bob, carol], key=lambda account: account.id)
    for number, account in enumerate(accounts):
        become_customer(account, subscription(id=f"sub_{number}"), id=f"cus_{number}")
        sent(account, 3, None)
    unreadable = mirror.Subscription.objects.filter(customer_id="cus_0")
    unreadable.update(stripe_data={"items": None})
    refuse("billing_meterproblem", f"NEW.account_id = '{accounts[1].id}'")
    page_compare()
    assert [problem.account_id for problem in MeterProblem.objects.all()] == [accounts[2].id]
    assert jobs() == [accounts[2].id], "the next page"
