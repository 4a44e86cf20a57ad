"""Recording an ended call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from accounts.models import Account
from usage.models import DailyUsage, TotalUsage, UsageRecord
from usage.services import usage_record_complete, usage_record_create, whole_minutes

NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)


def record(account: Account, number: int = 1, **fields: Any) -> UsageRecord:
    with transaction.atomic():
        return usage_record_create(**used(account, number, **fields))


def complete(account: Account, number: int = 1, **fields: Any) -> UsageRecord:
    with transaction.atomic():
        return usage_record_complete(**used(account, number, **fields))


def used(account: Account, number: int = 1, **fields: Any) -> Any:
    values = {
        "account_id": account.id,
        "call_sid": f"CA{number:032x}",
        "direction": "inbound",
        "caller_phone": "+19805551234",
        "called_number": "+15551234567",
        "duration_seconds": 61,
        "twilio_cost": Decimal("0.0258"),
        "openai_cost": Decimal("0.031416"),
        "ended_at": NOON,
    }
    given = values | fields
    return {"billed_seconds": given["duration_seconds"]} | given


def totals(account: Account) -> tuple[int, int]:
    total = TotalUsage.objects.total_of(account)
    return total.calls, total.minutes


@pytest.mark.django_db
class TestRecord:
    def test_it_works(self, alice: Account) -> None:
        stored = record(alice)
        assert (stored.minutes, stored.duration_seconds) == (2, 61)
        assert stored.platform_cost == Decimal("0.10")
        assert stored.total_cost == Decimal("0.157216")
        assert stored.created_at == NOON
        assert UsageRecord.objects.get() == stored

    def test_the_totals_add_up(self, alice: Account, bob: Account) -> None:
        record(alice, 1)
        record(alice, 2, duration_seconds=30)
        record(bob, 3, duration_seconds=600)
        assert totals(alice) == (2, 3)
        assert totals(bob) == (1, 10)
        day = DailyUsage.objects.of(alice).get()
        assert (day.day, day.calls, day.minutes) == (date(2026, 4, 1), 2, 3)

    def test_the_same_call_again_changes_nothing(self, alice: Account) -> None:
        first = record(alice)
        again = record(alice, duration_seconds=6_000, ended_at=NOON + timedelta(days=1))
        assert (again.id, again.minutes, again.created_at) == (first.id, 2, NOON)
        assert totals(alice) == (1, 2)
        assert DailyUsage.objects.count() == 1

    def test_a_call_that_was_not_answered_counts_without_minutes(self, alice: Account) -> None:
        stored = record(alice, duration_seconds=0, twilio_cost=Decimal(0), openai_cost=Decimal(0))
        assert stored.total_cost == 0
        assert totals(alice) == (1, 0)

    def test_only_billed_seconds_make_minutes(self, alice: Account) -> None:
        assert record(alice, 1, duration_seconds=61, billed_seconds=60).minutes == 1
        free = record(alice, 2, duration_seconds=61, billed_seconds=0)
        assert (free.duration_seconds, free.minutes, free.platform_cost) == (61, 0, 0)
        assert free.twilio_cost == Decimal("0.0258")
        assert totals(alice) == (2, 1)

    def test_the_day_is_the_one_of_utc(self, alice: Account) -> None:
        evening = datetime(2026, 3, 31, 22, 30, tzinfo=timezone(timedelta(hours=-5)))
        record(alice, ended_at=evening)
        assert DailyUsage.objects.get().day == date(2026, 4, 1)

    def test_nothing_stays_when_the_transaction_fails(self, alice: Account) -> None:
        def fail() -> None:
            with transaction.atomic():
                record(alice)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert not UsageRecord.objects.exists()
        assert totals(alice) == (0, 0)


@pytest.mark.django_db
class TestCompletion:
    """A call went on after it was recorded."""

    def test_what_is_missing_becomes_another_record(self, alice: Account) -> None:
        first = record(alice)
        cost = {"twilio_cost": Decimal("0.0516"), "openai_cost": Decimal("0.05")}
        later = NOON + timedelta(days=1)
        whole = complete(alice, duration_seconds=200, ended_at=later, **cost)
        assert (whole.duration_seconds, whole.minutes) == (200, 4)
        assert whole.total_cost == Decimal("0.3016")
        stored, rest = UsageRecord.objects.order_by("part")
        assert stored == first
        assert (rest.duration_seconds, rest.minutes, rest.created_at) == (139, 2, later)
        assert rest.identifier == f"{first.call_sid}.2"
        assert totals(alice) == (1, 4)
        days = DailyUsage.objects.of(alice).order_by("day")
        assert [(day.calls, day.minutes) for day in days] == [(1, 2), (0, 2)]

    def test_it_happens_once(self, alice: Account) -> None:
        record(alice)
        for _ in range(2):
            complete(alice, duration_seconds=200)
        assert UsageRecord.objects.count() == 2
        assert totals(alice) == (1, 4)

    def test_nothing_is_taken_back(self, alice: Account) -> None:
        record(alice)
        assert complete(alice, duration_seconds=1, openai_cost=Decimal(0)).minutes == 2
        assert UsageRecord.objects.count() == 1

    def test_minutes_that_were_free_are_added(self, alice: Account) -> None:
        """The record that came too early knew nothing of a model that was ready."""
        record(alice, duration_seconds=61, billed_seconds=0)
        assert complete(alice, duration_seconds=200, billed_seconds=198).minutes == 4
        assert totals(alice) == (1, 4)

    def test_a_call_that_was_not_recorded_gets_one_record(self, alice: Account) -> None:
        assert complete(alice) == UsageRecord.objects.get()
        assert totals(alice) == (1, 2)


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(0, 0), (1, 1), (59, 1), (60, 1), (61, 2), (120, 2), (3_300, 55)]
)
def test_every_begun_minute_counts_as_a_whole(seconds: int, minutes: int) -> None:
    assert whole_minutes(seconds) == minutes


@pytest.mark.django_db(transaction=True)
class TestTransactions:
    def test_there_must_be_one(self, alice: Account) -> None:
        with pytest.raises(TransactionManagementError):
            usage_record_create(
                account_id=alice.id,
                call_sid="CA1",
                direction="inbound",
                caller_phone="",
                called_number="",
                duration_seconds=1,
                billed_seconds=1,
                twilio_cost=Decimal(0),
                openai_cost=Decimal(0),
                ended_at=NOON,
            )
        assert not UsageRecord.objects.exists()

    def test_calls_that_end_at_once_are_all_counted(self, alice: Account) -> None:
        """Eight threads, each of which ends its own call, and then all the same one."""
        threads = 8
        barrier = Barrier(threads, timeout=10)

        def end_two(number: int) -> set[str]:
            try:
                barrier.wait()
                own = record(alice, number)
                barrier.wait()
                return {own.id, record(alice, 1_000).id}
            finally:
                connection.close()

        with ThreadPoolExecutor(threads) as pool:
            ids = set().union(*pool.map(end_two, range(threads)))

        assert len(ids) == threads + 1
        assert UsageRecord.objects.of(alice).count() == threads + 1
        assert totals(alice) == (threads + 1, 2 * (threads + 1))
        day = DailyUsage.objects.of(alice).get()
        assert (day.calls, day.minutes) == (threads + 1, 2 * (threads + 1))
