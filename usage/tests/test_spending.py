"""The monthly spending limit: what is spent of it, and who is told when."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import Account
from accounts.tasks import send_mail
from usage.models import DailyUsage, SpendingLimit, UsageRecord
from usage.services import usage_record_create
from usage.spending import Spending, spending_limit_set, spending_of

# A minute is $0.05: the limit of these tests is ten minutes.
LIMIT = Decimal("0.50")


@pytest.fixture(autouse=True)
def no_jobs(request: Any) -> None:
    """The tables of the queue are not Django's, so they are not emptied between tests."""
    database = "transactional_db" if "transactional_db" in request.fixturenames else "db"
    request.getfixturevalue(database)
    queued()


def queued() -> list[dict[str, Any]]:
    """Take the mails that are queued; return the arguments of their jobs, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "with taken as (delete from procrastinate_jobs"
            " where task_name = 'accounts.tasks.send_mail' returning id, args)"
            " select args from taken order by id"
        )
        return [json.loads(arguments) for (arguments,) in cursor.fetchall()]


def told() -> list[int]:
    return [arguments["context"]["mark"] for arguments in queued()]


def use(account: Account, number: int, minutes: int, at: datetime | None = None) -> UsageRecord:
    with transaction.atomic():
        return usage_record_create(
            account_id=account.id,
            call_sid=f"CA{number:032x}",
            direction="inbound",
            caller_phone="+19805551234",
            called_number="+15551234567",
            duration_seconds=minutes * 60,
            billed_seconds=minutes * 60,
            twilio_cost=Decimal("1.00"),
            openai_cost=Decimal("2.00"),
            ended_at=at or timezone.now(),
        )


@pytest.mark.parametrize("amount", ["0", "-1", "1.005", "1000000.01", "NaN", "Infinity", "1e999"])
def test_a_limit_that_is_no_amount_of_whole_cents(alice: Account, amount: str) -> None:
    with pytest.raises(ValidationError) as refused:
        spending_limit_set(account=alice, amount=Decimal(amount))
    assert "whole cents" in refused.value.message_dict["amount"][0]
    assert spending_of(alice).limit is None


class TestSpending:
    def test_it_works(self, alice: Account, bob: Account) -> None:
        use(alice, 1, 4)
        use(alice, 2, 3)
        use(bob, 3, 9)
        spending_limit_set(account=alice, amount=LIMIT)
        spending = spending_of(alice)
        assert (spending.limit, spending.minutes) == (LIMIT, 7)
        assert (spending.spent, spending.percent) == (Decimal("0.35"), 70)
        assert not spending.is_reached

    def test_without_a_limit_none_is_reached(self, alice: Account) -> None:
        use(alice, 1, 1_000)
        spending = spending_of(alice)
        assert (spending.limit, spending.minutes, spending.is_reached) == (None, 1_000, False)
        spending_limit_set(account=alice, amount=LIMIT)
        assert spending_of(alice).is_reached
        spending_limit_set(account=alice, amount=None)
        assert not spending_of(alice).is_reached

    def test_it_costs_one_query(
        self, alice: Account, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        use(alice, 1, 1)
        with django_assert_num_queries(1):
            assert spending_of(alice).minutes == 1

    def test_only_this_month_counts(self, alice: Account) -> None:
        today = timezone.now().date()
        DailyUsage.objects.create(account=alice, day=today.replace(day=1), calls=1, minutes=2)
        last = today.replace(year=today.year - 1)
        DailyUsage.objects.create(account=alice, day=last, calls=1, minutes=900)
        assert spending_of(alice).minutes == 2

    @pytest.mark.parametrize(
        ("minutes", "mark", "is_reached"),
        [(4, 0, False), (5, 50, False), (7, 50, False), (8, 80, False), (10, 100, True)],
    )
    def test_marks(self, minutes: int, mark: int, is_reached: bool) -> None:
        spending = Spending(LIMIT, minutes)
        assert (spending.mark, spending.is_reached) == (mark, is_reached)

    def test_a_hair_below_is_not_reached(self, settings: Any) -> None:
        settings.PER_MINUTE_RATE = Decimal("0.000001")
        assert not Spending(Decimal("0.01"), 9_999).is_reached
        assert Spending(Decimal("0.01"), 10_000).is_reached


class TestTold:
    def test_it_works(self, alice: Account) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        marks = []
        for number in range(12):
            use(alice, number, 1)
            marks.append(told())
        assert marks == [[], [], [], [], [50], [], [], [80], [], [100], [], []]

    def test_the_mail(self, alice: Account, settings: Any) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        use(alice, 1, 5, datetime(2030, 4, 1, 12, tzinfo=UTC))
        use(alice, 2, 5, datetime(2030, 4, 2, 12, tzinfo=UTC))
        for arguments in queued():
            send_mail(**arguments)
        half, full = mail.outbox
        assert half.to == ["alice@example.org"]
        assert half.subject == "You have used 50% of your monthly spending limit"
        assert "In April 2030, your calls cost $0.25 so far" in half.body
        assert full.subject == "You reached your monthly spending limit"
        assert f"{settings.PUBLIC_URL}/dashboard/billing#limit" in full.body
        assert "$0.50" in full.body

    def test_a_call_that_passes_several_marks_tells_the_highest(self, alice: Account) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        use(alice, 1, 55)
        assert told() == [100]

    def test_the_next_month_begins_anew(self, alice: Account) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        use(alice, 1, 10, datetime(2030, 4, 30, 23, 59, tzinfo=UTC))
        use(alice, 2, 5, datetime(2030, 5, 1, tzinfo=UTC))
        use(alice, 3, 9, datetime(2030, 4, 30, 23, 58, tzinfo=UTC))  # recorded late
        use(alice, 4, 3, datetime(2030, 5, 1, tzinfo=UTC))
        assert told() == [100, 50, 80]

    def test_a_limit_that_is_raised_is_told_of_again(self, alice: Account) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        use(alice, 1, 10)
        spending_limit_set(account=alice, amount=LIMIT * 2)
        use(alice, 2, 5)
        assert told() == [100]
        use(alice, 3, 1)
        spending_limit_set(account=alice, amount=LIMIT * 2)  # nothing new
        use(alice, 4, 1)
        assert told() == [80]

    def test_what_a_new_limit_has_reached_already_is_known(self, alice: Account) -> None:
        use(alice, 1, 8)
        spending_limit_set(account=alice, amount=LIMIT)
        use(alice, 2, 1)
        assert told() == []
        use(alice, 3, 1)
        assert told() == [100]

    def test_a_call_that_is_recorded_twice_tells_once(self, alice: Account) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        use(alice, 1, 5)
        use(alice, 1, 5)
        assert told() == [50]

    def test_without_a_limit_nobody_is_told(self, alice: Account, bob: Account) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        spending_limit_set(account=alice, amount=None)
        use(alice, 1, 500)
        use(bob, 2, 500)
        assert told() == []

    def test_it_goes_with_the_record(self, alice: Account) -> None:
        spending_limit_set(account=alice, amount=LIMIT)

        def fail() -> None:
            with transaction.atomic():
                use(alice, 1, 5)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert told() == []
        assert SpendingLimit.objects.get().told_percent == 0
        use(alice, 1, 5)
        assert told() == [50]


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_calls_that_end_at_once_send_each_mail_once(
        self, transactional_db: None, alice: Account
    ) -> None:
        """Ten threads end a minute each: five of them pass half, one reaches the limit."""
        spending_limit_set(account=alice, amount=LIMIT)
        barrier = Barrier(10, timeout=10)

        def end_one(number: int) -> None:
            try:
                barrier.wait()
                use(alice, number, 1)
            finally:
                connection.close()

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(end_one, range(10)))
        assert sorted(told()) == [50, 80, 100]

    def test_two_that_pass_the_same_mark(self, transactional_db: None, alice: Account) -> None:
        spending_limit_set(account=alice, amount=LIMIT)
        barrier = Barrier(2, timeout=10)

        def end_one(number: int) -> None:
            try:
                barrier.wait()
                use(alice, number, 10)
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(end_one, range(2)))
        assert told() == [100]
