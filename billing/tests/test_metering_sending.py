"""Sending meter events: each call's minutes once, whatever Stripe answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier, Event
from typing import Any

import pytest
import stripe
from django.db import connection, connections
from django.utils import timezone
from djstripe import models as mirror

from accounts.models import Account
from billing.metering import events
from billing.metering.delivery import Claim
from billing.metering.events import LEASE, meter_events_send, retry_delay
from billing.models import MeterEvent, MeterProblem, PlanPart, StripeCustomer
from billing.tests.metered import (
    become_customer,
    event,
    invoice,
    seconds,
    set_up_meter,
    subscription,
)
from billing.tests.watched import Answer, Request, WatchedStripe, failure, nothing, refusal
from core.tests.rows import refuse

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def meter() -> None:
    set_up_meter()


@pytest.fixture
def customer(alice: Account) -> StripeCustomer:
    return become_customer(alice, subscription())


def send_again(after: timedelta = timedelta(0)) -> None:
    """Send what was postponed, as if so much time had passed since the first attempt."""
    MeterEvent.objects.unsent().update(next_attempt_at=timezone.now())
    for pending in MeterEvent.objects.unsent().exclude(first_attempt_at=None):
        pending.first_attempt_at -= after
        pending.save(update_fields=["first_attempt_at"])
    meter_events_send()


def minutes_at(meter: WatchedStripe, customer_id: str = "cus_1") -> int:
    """Return the minutes that Stripe will bill."""
    counted = meter.events.values()
    return sum(each.minutes for each in counted if each.customer == customer_id)


def problems(kind: str) -> list[dict[str, Any]]:
    return list(MeterProblem.objects.filter(kind=kind).values_list("detail", flat=True))


def test_it_works(alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe) -> None:
    written = event(alice, 3)
    meter_events_send()
    written.refresh_from_db()
    assert (written.state, written.attempts, written.last_error) == ("sent", 1, "")
    assert written.sent_at
    [request] = stripes_meter.requests
    assert request.params == {
        "event_name": "switchhook_minutes",
        "identifier": written.identifier,
        "payload[stripe_customer_id]": "cus_1",
        "payload[value]": "3",
        "timestamp": str(seconds(written.happened_at)),
    }
    assert request.headers["Idempotency-Key"] == f"{written.identifier}-0"


def test_what_is_sent_is_sent_once(
    alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
) -> None:
    event(alice)
    for _ in range(2):
        send_again()
    assert len(stripes_meter.requests) == 1


def test_there_may_be_many(
    alice: Account,
    customer: StripeCustomer,
    stripes_meter: WatchedStripe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "BATCH_SIZE", 3)
    for minutes in range(1, 9):
        event(alice, minutes)
    meter_events_send()
    assert minutes_at(stripes_meter) == 36
    assert not MeterEvent.objects.unsent().exists()


def test_each_account_pays_its_own(
    alice: Account, bob: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
) -> None:
    become_customer(bob, subscription(id="sub_2"), id="cus_2")
    event(alice, 3)
    event(bob, 5)
    meter_events_send()
    assert minutes_at(stripes_meter, "cus_1") == 3
    assert minutes_at(stripes_meter, "cus_2") == 5


def test_nothing_is_sent_before_the_set_up(
    alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
) -> None:
    PlanPart.objects.all().delete()
    written = event(alice)
    meter_events_send()
    written.refresh_from_db()
    assert (written.state, written.attempts) == ("pending", 0)
    assert stripes_meter.requests == []


class TestWaiting:
    def test_an_account_without_a_customer_waits(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        written = event(alice)
        meter_events_send()
        written.refresh_from_db()
        assert written.state == "pending"
        assert written.next_attempt_at > timezone.now()
        assert "customer" in written.last_error
        become_customer(alice, subscription())
        send_again()
        assert minutes_at(stripes_meter) == 1

    def test_so_does_one_whose_customer_is_deleted(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        StripeCustomer.objects.update(deleted_at=timezone.now())
        event(alice)
        meter_events_send()
        assert stripes_meter.requests == []
        assert MeterEvent.objects.unsent().exists()

    def test_who_waits_holds_nobody_up(
        self,
        alice: Account,
        bob: Account,
        stripes_meter: WatchedStripe,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(events, "BATCH_SIZE", 2)
        for _ in range(5):
            event(alice)
        become_customer(bob, subscription())
        event(bob)
        meter_events_send()
        assert minutes_at(stripes_meter) == 1


class TestAnswers:
    @pytest.mark.parametrize("answer", [failure(500), failure(503), failure(429), failure(401)])
    def test_a_failure_is_tried_again(
        self,
        alice: Account,
        customer: StripeCustomer,
        stripes_meter: WatchedStripe,
        answer: Answer,
    ) -> None:
        written = event(alice)
        stripes_meter.before = lambda request: answer
        meter_events_send()
        written.refresh_from_db()
        assert (written.state, written.attempts) == ("pending", 1)
        assert written.last_error
        assert written.next_attempt_at > timezone.now()
        stripes_meter.before = nothing
        send_again()
        written.refresh_from_db()
        assert (written.state, written.attempts, written.last_error) == ("sent", 2, "")
        assert minutes_at(stripes_meter) == 1

    @pytest.mark.parametrize("answer", [failure(500), None])
    def test_a_lost_answer_counts_nothing_twice(
        self,
        alice: Account,
        customer: StripeCustomer,
        stripes_meter: WatchedStripe,
        answer: Answer | None,
    ) -> None:
        """Stripe has counted it, and we are not told so."""
        written = event(alice)
        stripes_meter.after = lambda request: answer or _disconnect()
        meter_events_send()
        assert minutes_at(stripes_meter) == 1
        stripes_meter.after = nothing
        send_again()
        written.refresh_from_db()
        assert written.state == "sent"
        assert minutes_at(stripes_meter) == 1

    def test_stripe_repeats_a_failure_to_the_same_key_alone(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        event(alice)
        stripes_meter.before = lambda request: failure(500)
        meter_events_send()
        send_again()
        keys = [request.headers["Idempotency-Key"] for request in stripes_meter.requests]
        assert len(set(keys)) == 2

    @pytest.mark.parametrize(
        "answer",
        [
            refusal("An event already exists with identifier CA1."),
            refusal("Already submitted.", code="duplicate_meter_event"),
        ],
    )
    def test_a_duplicate_is_delivered(
        self,
        alice: Account,
        customer: StripeCustomer,
        stripes_meter: WatchedStripe,
        answer: Answer,
    ) -> None:
        written = event(alice)
        stripes_meter.before = lambda request: answer
        meter_events_send()
        written.refresh_from_db()
        assert written.state == "sent"
        assert not MeterProblem.objects.exists()

    def test_a_request_that_runs_still_is_tried_again(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        written = event(alice)
        body = {"error": {"type": "idempotency_error", "message": "A request is in progress."}}
        stripes_meter.before = lambda request: (400, body)
        meter_events_send()
        written.refresh_from_db()
        assert (written.state, written.attempts) == ("pending", 1)

    def test_what_stripe_refuses_is_looked_at(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        written = event(alice, 4)
        stripes_meter.before = lambda request: refusal("No such customer: 'cus_1'")
        meter_events_send()
        written.refresh_from_db()
        assert (written.state, written.last_error) == ("refused", "No such customer: 'cus_1'")
        [problem] = MeterProblem.objects.all()
        assert (problem.kind, problem.account, problem.resolved_at) == ("refused", alice, None)
        assert problem.detail["minutes"] == 4
        send_again()
        assert len(stripes_meter.requests) == 1

    def test_one_refusal_does_not_stop_the_others(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        refused = event(alice, 4)
        event(alice, 1)

        def refuse(request: Request) -> Answer | None:
            is_it = request.params["identifier"] == refused.identifier
            return refusal("No.") if is_it else None

        stripes_meter.before = refuse
        meter_events_send()
        assert minutes_at(stripes_meter) == 1

    def test_an_outage_stops_all_for_now(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        """Nobody waits for fifty time-outs, and what was not tried is not postponed."""
        for _ in range(10):
            event(alice)
        stripes_meter.before = lambda request: _disconnect()
        meter_events_send()
        assert len(stripes_meter.requests) == 3
        assert MeterEvent.objects.due(timezone.now()).count() == 7
        assert MeterEvent.objects.filter(first_attempt_at=None).count() == 7

    def test_the_key_is_in_no_log_and_no_row(
        self,
        alice: Account,
        customer: StripeCustomer,
        stripes_meter: WatchedStripe,
        settings: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for answer in (failure(401), failure(500), refusal("No.")):
            written = event(alice)
            stripes_meter.before = lambda request, answer=answer: answer
            meter_events_send()
            written.refresh_from_db()
            assert settings.STRIPE_SECRET_KEY not in written.last_error
        assert "stripe_unavailable" in caplog.text
        assert "meter_problem" in caplog.text
        assert settings.STRIPE_SECRET_KEY not in caplog.text


def _disconnect() -> Answer:
    raise stripe.APIConnectionError("Connection reset")


class TestTooOld:
    def test_it_goes_to_a_list(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        old = event(alice, 7, happened_at=timezone.now() - 35 * DAY - MINUTE)
        meter_events_send()
        old.refresh_from_db()
        assert old.state == "too-old"
        assert stripes_meter.requests == []
        assert [detail["minutes"] for detail in problems("too-old")] == [7]

    def test_without_a_customer_too(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        event(alice, happened_at=timezone.now() - 35 * DAY - MINUTE)
        meter_events_send()
        assert len(problems("too-old")) == 1

    def test_what_is_younger_is_sent(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        now = timezone.now()
        become_customer(alice, subscription(period=(now - 36 * DAY, now + DAY)))
        event(alice, happened_at=now - 35 * DAY + MINUTE)
        meter_events_send()
        assert minutes_at(stripes_meter) == 1

    def test_stripe_may_find_it_too_old(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        written = event(alice)
        stripes_meter.before = lambda r: refusal("Old.", code="timestamp_too_far_in_past")
        meter_events_send()
        written.refresh_from_db()
        assert written.state == "too-old"
        assert len(problems("too-old")) == 1


class TestLease:
    def test_what_somebody_sends_is_left_to_them(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        event(alice)

        def somebody_else_comes(request: Request) -> None:
            stripes_meter.before = nothing
            meter_events_send()

        stripes_meter.before = somebody_else_comes
        meter_events_send()
        assert len(stripes_meter.requests) == 1

    def test_what_nobody_has_recorded_is_sent_again_in_time(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        written = event(alice)
        assert len(events._claim("mtr_1")) == 1
        written.refresh_from_db()
        assert timezone.now() < written.next_attempt_at <= timezone.now() + LEASE

    def test_who_is_too_slow_does_not_send(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        """Its lease is over, and somebody else has the event."""
        event(alice)
        [slow] = events._claim("mtr_1")
        MeterEvent.objects.update(next_attempt_at=timezone.now())
        [quick] = events._claim("mtr_1")
        assert events._send_all([slow])
        assert stripes_meter.requests == []
        assert events._send_all([quick])
        assert minutes_at(stripes_meter) == 1

    def test_who_is_slow_overwrites_nothing(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        """Its answer, a failure, comes when somebody else has sent the event."""
        written = event(alice)

        def fail_late(request: Request) -> Answer:
            stripes_meter.before = nothing
            send_again()
            return failure(500)

        stripes_meter.before = fail_late
        meter_events_send()
        written.refresh_from_db()
        assert written.state == "sent"

    def test_who_is_slow_postpones_nothing(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        """Its answer, a failure, comes when somebody else has claimed the event."""
        written = event(alice)
        claims: list[Claim] = []

        def fail_late(request: Request) -> Answer:
            MeterEvent.objects.update(next_attempt_at=timezone.now())
            claims.extend(events._claim("mtr_1"))
            return failure(500)

        stripes_meter.before = fail_late
        meter_events_send()
        written.refresh_from_db()
        assert (written.attempts, written.next_attempt_at) == (0, claims[0].until)

    def test_a_batch_ends_before_its_lease(
        self,
        alice: Account,
        customer: StripeCustomer,
        stripes_meter: WatchedStripe,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for _ in range(3):
            event(alice)
        claims = events._claim("mtr_1")
        monkeypatch.setattr(events, "_MARGIN", LEASE)
        assert not events._send_all(claims)
        assert stripes_meter.requests == []
        assert MeterEvent.objects.due(timezone.now()).count() == 3

    @pytest.mark.django_db(transaction=True)
    def test_many_at_once_send_each_once(
        self,
        alice: Account,
        customer: StripeCustomer,
        stripes_meter: WatchedStripe,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(events, "BATCH_SIZE", 5)
        for _ in range(60):
            event(alice)
        start = Barrier(4, timeout=10)

        def send(_: int) -> None:
            try:
                start.wait()
                meter_events_send()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, range(4)))
        identifiers = [request.params["identifier"] for request in stripes_meter.requests]
        assert len(identifiers) == len(set(identifiers)) == 60
        assert not MeterEvent.objects.unsent().exists()

    @pytest.mark.django_db(transaction=True)
    def test_nobody_waits_for_a_row_that_is_claimed(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        """While one claims, in its transaction still, another takes what is left."""
        first = event(alice, next_attempt_at=timezone.now() - MINUTE)
        second = event(alice)
        has_claimed, may_commit = Event(), Event()

        def claim_slowly() -> None:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("BEGIN")
                    cursor.execute(
                        "SELECT 1 FROM billing_meterevent WHERE identifier = %s FOR UPDATE",
                        [first.identifier],
                    )
                    has_claimed.set()
                    assert may_commit.wait(10)
                    cursor.execute("COMMIT")
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool:
            claiming = pool.submit(claim_slowly)
            assert has_claimed.wait(10)
            meter_events_send()
            may_commit.set()
            claiming.result(10)
        [request] = stripes_meter.requests
        assert request.params["identifier"] == second.identifier


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_while_stripe_is_asked(
    alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
) -> None:
    held: list[object] = []
    event(alice)
    stripes_meter.before = lambda request: held.append(connection.connection)
    meter_events_send()
    assert held == [None]


class TestADayLater:
    """Stripe has forgotten the identifier: an attempt without an answer is asked about."""

    def lose_the_answer(self, meter: WatchedStripe) -> None:
        meter.after = lambda request: _disconnect()
        meter_events_send()
        meter.after = nothing
        meter.a_day_passes()

    def test_what_was_counted_is_not_sent_again(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        written = event(alice, 3)
        self.lose_the_answer(stripes_meter)
        send_again(after=DAY)
        written.refresh_from_db()
        assert written.state == "sent"
        assert minutes_at(stripes_meter) == 3

    def test_what_was_not_counted_is_sent(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        written = event(alice, 3)
        stripes_meter.before = lambda request: _disconnect()
        meter_events_send()
        stripes_meter.before = nothing
        send_again(after=DAY)
        written.refresh_from_db()
        assert written.state == "sent"
        assert minutes_at(stripes_meter) == 3

    def test_other_calls_of_the_same_minute_are_told_apart(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        at = timezone.now() - DAY
        sent = event(alice, 5, happened_at=at, state="sent", sent_at=at)
        stripes_meter.has_counted(sent.identifier, 5, seconds(at))
        event(alice, 3, happened_at=at)
        self.lose_the_answer(stripes_meter)
        send_again(after=DAY)
        assert minutes_at(stripes_meter) == 8
        assert not MeterEvent.objects.unsent().exists()

    def test_so_are_calls_of_the_same_minute_that_were_all_lost(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        at = timezone.now() - DAY
        counted = event(alice, 3, happened_at=at, first_attempt_at=at)
        event(alice, 5, happened_at=at, first_attempt_at=at)
        stripes_meter.has_counted(counted.identifier, 3, seconds(at))
        meter_events_send()
        assert minutes_at(stripes_meter) == 8
        assert list(MeterEvent.objects.unsent()) == [counted]
        MeterEvent.objects.update(sent_at=at)
        send_again()
        assert minutes_at(stripes_meter) == 8
        assert not MeterEvent.objects.unsent().exists()

    def test_it_waits_while_nobody_can_tell(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        """Another of the minute was sent just now: it may be the one that Stripe has counted."""
        at = timezone.now() - DAY
        other = event(alice, 3, happened_at=at, state="sent", sent_at=timezone.now())
        written = event(alice, 3, happened_at=at)
        self.lose_the_answer(stripes_meter)
        send_again(after=DAY)
        written.refresh_from_db()
        assert written.state == "pending"
        assert minutes_at(stripes_meter) == 3
        stripes_meter.has_counted(other.identifier, 3, seconds(at))
        MeterEvent.objects.filter(pk=other.pk).update(sent_at=at)
        send_again()
        written.refresh_from_db()
        assert written.state == "sent"
        assert minutes_at(stripes_meter) == 6

    def test_within_the_day_stripe_protects_itself(
        self, alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
    ) -> None:
        event(alice)
        stripes_meter.before = lambda request: failure(500)
        meter_events_send()
        send_again(after=timedelta(hours=22))
        paths = {request.path for request in stripes_meter.requests}
        assert paths == {"/v1/billing/meter_events"}


class TestLate:
    """The period in which a call ended is over when it is sent."""

    def renewed(self, alice: Account, meter: WatchedStripe, status: str) -> datetime:
        """Return when the running period began, an hour ago."""
        now = timezone.now().replace(microsecond=0)
        start = now - timedelta(hours=1)
        before = start - 31 * DAY
        at_stripe = subscription(begins=before, period=(start, start + 30 * DAY))
        become_customer(alice, at_stripe)
        at_stripe["latest_invoice"] = invoice(status, before, finalizes_at=now + 20 * MINUTE)
        meter.things["sub_1"] = at_stripe
        return start

    def test_the_draft_takes_it(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        start = self.renewed(alice, stripes_meter, "draft")
        written = event(alice, happened_at=start - MINUTE)
        meter_events_send()
        assert stripes_meter.events[written.identifier].at == seconds(start - MINUTE)

    def test_the_next_invoice_takes_it(self, alice: Account, stripes_meter: WatchedStripe) -> None:
        start = self.renewed(alice, stripes_meter, "paid")
        written = event(alice, happened_at=start - MINUTE)
        meter_events_send()
        assert stripes_meter.events[written.identifier].at == seconds(start)
        written.refresh_from_db()
        assert (written.state, written.happened_at) == ("sent", start)
        assert not MeterProblem.objects.exists()

    def test_what_was_counted_before_is_not_moved(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        """It was sent in time, and the answer was lost."""
        at = self.renewed(alice, stripes_meter, "paid") - MINUTE
        written = event(alice, 3, happened_at=at, first_attempt_at=at)
        stripes_meter.has_counted(written.identifier, 3, seconds(at))
        meter_events_send()
        written.refresh_from_db()
        assert (written.state, written.happened_at) == ("sent", at)
        assert minutes_at(stripes_meter) == 3

    def test_stripe_being_down_postpones_it(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        start = self.renewed(alice, stripes_meter, "paid")
        written = event(alice, happened_at=start - MINUTE)
        stripes_meter.before = lambda request: failure(500)
        meter_events_send()
        written.refresh_from_db()
        assert (written.state, written.first_attempt_at) == ("pending", None)
        assert written.happened_at == start - MINUTE


class TestAfterTheEnd:
    """The subscription ended an hour ago, while a call went on."""

    @pytest.fixture
    def end(self) -> datetime:
        return (timezone.now() - timedelta(hours=1)).replace(microsecond=0)

    def ended(
        self, alice: Account, meter: WatchedStripe, end: datetime, status: str | None
    ) -> None:
        begins = end - 31 * DAY
        at_stripe = subscription(begins=begins, period=(begins, end), ended_at=seconds(end))
        become_customer(alice, at_stripe)
        at_stripe["latest_invoice"] = status and invoice(status, begins)
        meter.things["sub_1"] = at_stripe

    def test_the_last_invoice_takes_it(
        self, alice: Account, stripes_meter: WatchedStripe, end: datetime
    ) -> None:
        self.ended(alice, stripes_meter, end, "draft")
        written = event(alice, happened_at=end + MINUTE)
        meter_events_send()
        assert stripes_meter.events[written.identifier].at == seconds(end) - 1
        assert not MeterProblem.objects.exists()
        written.refresh_from_db()
        assert seconds(written.happened_at) == seconds(end) - 1
        assert written.usage_record.created_at == end + MINUTE

    @pytest.mark.parametrize("status", ["paid", None])
    def test_what_no_invoice_takes_is_flagged(
        self, alice: Account, stripes_meter: WatchedStripe, end: datetime, status: str | None
    ) -> None:
        self.ended(alice, stripes_meter, end, status)
        written = event(alice, 6, happened_at=end + MINUTE)
        meter_events_send()
        written.refresh_from_db()
        assert (written.state, written.happened_at) == ("sent", end + MINUTE)
        [problem] = MeterProblem.objects.all()
        assert (problem.kind, problem.account) == ("after-cancellation", alice)
        assert problem.detail == {"call": written.identifier, "minutes": 6}

    def test_it_is_flagged_once(
        self, alice: Account, stripes_meter: WatchedStripe, end: datetime
    ) -> None:
        self.ended(alice, stripes_meter, end, "paid")
        event(alice, happened_at=end + MINUTE)
        stripes_meter.before = lambda request: failure(500) if request.method == "post" else None
        meter_events_send()
        send_again()
        assert MeterProblem.objects.count() == 1

    def test_without_a_subscription_nobody_pays(
        self, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        become_customer(alice)
        event(alice)
        meter_events_send()
        assert minutes_at(stripes_meter) == 1
        assert len(problems("after-cancellation")) == 1

    def test_a_subscription_that_stripe_does_not_know_pays_nothing(
        self, alice: Account, stripes_meter: WatchedStripe, end: datetime
    ) -> None:
        self.ended(alice, stripes_meter, end, "draft")
        del stripes_meter.things["sub_1"]
        written = event(alice, happened_at=end + MINUTE)
        meter_events_send()
        written.refresh_from_db()
        assert written.state == "sent"
        assert len(problems("after-cancellation")) == 1


def test_retries_back_off() -> None:
    delays = [retry_delay(attempts).total_seconds() for attempts in range(1, 40)]
    assert 5 <= delays[0] <= 6.25
    assert 10 <= delays[1] <= 12.5
    assert all(3600 <= delay <= 4500 for delay in delays[12:])


def test_retries_do_not_come_together() -> None:
    assert len({retry_delay(3) for _ in range(20)}) > 1


def _break_subscription(customer_id: str) -> None:
    mirror.Subscription.objects.filter(customer_id=customer_id).update(stripe_data={"items": None})


def test_one_whose_subscription_cannot_be_read_holds_up_no_other(
    alice: Account, bob: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
) -> None:
    become_customer(bob, subscription(id="sub_2"), id="cus_2")
    _break_subscription("cus_1")
    bad, good = event(alice, 3), event(bob, 4)
    meter_events_send()
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, bad.attempts) == ("pending", 1)
    assert bad.last_error == "The account's subscription cannot be read."
    assert bad.next_attempt_at < timezone.now() + MINUTE
    assert good.state == "sent"


def test_one_that_fails_here_holds_up_no_other(
    alice: Account, customer: StripeCustomer, stripes_meter: WatchedStripe
) -> None:
    bad, good = event(alice, 3), event(alice, 4)
    refuse(
        "billing_meterevent",
        f"NEW.identifier = '{bad.identifier}' AND NEW.first_attempt_at IS NOT NULL",
    )
    meter_events_send()
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, bad.attempts, bad.last_error) == (
        "pending",
        1,
        "An error in Switchhook. See the log.",
    )
    assert good.state == "sent"
