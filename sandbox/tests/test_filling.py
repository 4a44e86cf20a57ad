"""A made-up history: its rows are those that calls leave behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Count, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account
from billing.metering.events import meter_events_write
from billing.models import MeterEvent
from core.ids import is_id, made_at
from sandbox.filling import AlreadyCalled, fill
from telephony.models import Call, CallDay, NumberDay, PhoneNumber
from telephony.timelines import timeline_of
from usage.models import DailyUsage, TotalUsage, UsageRecord

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
A_MILLISECOND = timedelta(milliseconds=1)


def history(account: Account) -> list[tuple[object, ...]]:
    fields = ("id", "call_sid", "direction", "status", "ended_reason", "created_at", "ended_at")
    return list(Call.objects.of(account).order_by("id").values_list(*fields))


class TestFill:
    def test_it_works(self, alice: Account, bob: Account) -> None:
        fill(alice, calls=2_000, now=NOW)
        calls = list(Call.objects.of(alice).order_by("created_at"))
        assert len(calls) == 2_000
        assert not Call.objects.of(bob).exists()
        assert all(call.ended_at and call.ended_at < NOW for call in calls)
        assert NOW - timedelta(days=366) < calls[0].created_at < NOW - timedelta(days=364)
        assert {call.direction for call in calls} == {"inbound", "outbound"}
        assert len({call.ended_reason for call in calls}) > 5
        assert PhoneNumber.objects.of(alice).exists()

    def test_ids_are_of_our_shape_and_sort_by_time(self, alice: Account) -> None:
        fill(alice, calls=500, now=NOW)
        calls = list(Call.objects.of(alice).order_by("created_at"))
        assert [call.id for call in calls] == sorted(call.id for call in calls)
        for call in calls:
            assert is_id(call.id)
            assert abs(made_at(call.id) - call.created_at) < A_MILLISECOND

    def test_totals_are_those_of_the_records(self, alice: Account) -> None:
        fill(alice, calls=1_000, now=NOW)
        records = UsageRecord.objects.of(alice)
        total = TotalUsage.objects.total_of(alice)
        assert total.calls == records.count() > 800
        assert total.minutes == records.aggregate(sum=Sum("minutes"))["sum"]
        counted = records.annotate(day=TruncDate("created_at")).values_list("day")
        by_day = counted.annotate(calls=Count("id"), sum=Sum("minutes")).order_by("day")
        kept = DailyUsage.objects.of(alice).order_by("day").values_list("day", "calls", "minutes")
        assert list(by_day) == list(kept)
        for record in records[:20]:
            assert record.platform_cost == record.minutes * Decimal("0.05")

    def test_the_newest_have_a_timeline(self, alice: Account) -> None:
        fill(alice, calls=600, now=NOW)
        newest = Call.objects.of(alice).order_by("-created_at")[:20]
        for call in newest:
            kinds = [event.kind for event in timeline_of(call)]
            assert kinds[0] in ("received", "placed")
            assert kinds[-1] == "ended"

    def test_nothing_of_it_is_sent_to_stripe(self, alice: Account) -> None:
        fill(alice, calls=200, now=NOW)
        assert meter_events_write() == 0
        assert not MeterEvent.objects.unsent().exists()

    def test_the_same_seed_makes_the_same_calls(self, alice: Account) -> None:
        fill(alice, calls=100, now=NOW)
        first = history(alice)
        MeterEvent.objects.all().delete()
        for model in (UsageRecord, DailyUsage, TotalUsage, CallDay, NumberDay, Call):
            model.objects.all().delete()
        fill(alice, calls=100, now=NOW)
        assert history(alice) == first

    def test_one_that_has_calls_is_left_alone(self, alice: Account) -> None:
        fill(alice, calls=10, now=NOW)
        with pytest.raises(AlreadyCalled):
            fill(alice, calls=10, now=NOW)
        assert Call.objects.count() == 10


class TestCommand:
    @pytest.mark.django_db(transaction=True)
    def test_it_works(self, alice: Account, settings: Settings) -> None:
        settings.DEBUG = True
        call_command("fill_calls", account="ALICE@example.org", calls=50)
        assert Call.objects.of(alice).count() == 50
        assert Call.objects.of(alice).filter(created_at__gt=timezone.now()).count() == 0
        with pytest.raises(CommandError, match="has calls already"):
            call_command("fill_calls", account=alice.email, calls=50)

    @pytest.mark.parametrize(
        ("email", "calls", "problem"),
        [("nobody@example.org", 10, "There is no account"), ("alice@example.org", 0, "1 or more")],
    )
    def test_what_cannot_be_done_is_said(
        self, alice: Account, settings: Settings, email: str, calls: int, problem: str
    ) -> None:
        settings.DEBUG = True
        with pytest.raises(CommandError, match=problem):
            call_command("fill_calls", account=email, calls=calls)

    def test_not_in_production(self, alice: Account) -> None:
        with pytest.raises(CommandError, match="DEBUG=1"):
            call_command("fill_calls", account=alice.email, calls=10)
        assert not Call.objects.exists()
