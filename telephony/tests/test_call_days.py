"""How calls came out, and how fast they were, by day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Account
from core.ids import new_id
from telephony.call_days import BUCKETS, Latencies, busiest_numbers, days_since
from telephony.engine.codes import EndedReason, ErrorCode, EventKind
from telephony.models import Call, CallDay, NumberDay
from telephony.services import (
    call_accept,
    call_connect,
    call_end,
    call_end_lost,
    call_note,
    call_resume,
)


class TestLatencies:
    def test_there_is_none(self) -> None:
        assert Latencies.of([]).percentile(0.5) is None
        assert Latencies([]).percentile(0.95) is None

    @pytest.mark.parametrize("milliseconds", [11, 84, 250, 1_000, 9_999, 60_000])
    def test_one_is_exact_to_a_tenth(self, milliseconds: int) -> None:
        found = Latencies.of([milliseconds]).percentile(0.5)
        assert found == pytest.approx(milliseconds, rel=0.1)

    def test_half_and_most(self) -> None:
        known = Latencies.of([100] * 94 + [2_000] * 6)
        assert known.percentile(0.5) == pytest.approx(100, rel=0.1)
        assert known.percentile(0.95) == pytest.approx(2_000, rel=0.1)

    @pytest.mark.parametrize("odd", [-5, 0, 10**12])
    def test_what_is_out_of_range_is_in_the_first_or_last_bucket(self, odd: int) -> None:
        counts = Latencies.of([odd]).counts
        assert (counts[0] or counts[-1], len(counts)) == (1, BUCKETS)


@pytest.mark.django_db
class TestCounting:
    def end(self, call: Call, reason: EndedReason = EndedReason.CALLER_HANGUP, **more: Any) -> None:
        call_end(call_id=call.id, status=Call.Status.COMPLETED, reason=reason, **more)

    def day(self, account: Account) -> CallDay:
        [day] = days_since(account, date(2000, 1, 1)).values()
        return day

    def another(self, call: Call, number: int) -> Call:
        call.pk, call.call_sid = f"c{number:024}", f"CA{number:032}"
        call.save(force_insert=True)
        return call

    def test_each_outcome(self, alice: Account, call: Call) -> None:
        self.end(call)
        self.end(self.another(call, 1), EndedReason.REJECTED)
        self.end(self.another(call, 2), EndedReason.NO_ANSWER)
        errors = [(ErrorCode.CALL_START_TIMEOUT, "Slow.")]
        self.end(self.another(call, 3), EndedReason.REJECTED, errors=errors)
        day = self.day(alice)
        assert (day.completed, day.rejected, day.unanswered, day.failed) == (1, 1, 1, 1)
        assert day.calls == 4

    def test_a_call_that_has_ended_counts_once(self, alice: Account, call: Call) -> None:
        self.end(call)
        self.end(call)
        assert self.day(alice).calls == 1

    def test_latencies_add_up(self, alice: Account, call: Call) -> None:
        for number in (1, 2):
            each = self.another(call, number)
            call_accept(each, onCallStartMs=100)
            call_note(each, EventKind.AGENT_SPOKE, latencyMs=800)
            call_note(each, EventKind.AGENT_SPOKE)  # a greeting
            self.end(each)
        day = self.day(alice)
        assert (sum(day.on_call_start), sum(day.turns)) == (2, 2)
        assert Latencies(day.on_call_start).percentile(0.5) == pytest.approx(100, rel=0.1)
        assert Latencies(day.turns).percentile(0.5) == pytest.approx(800, rel=0.1)

    def test_the_day_is_the_accounts(self, alice: Account, call: Call) -> None:
        Account.objects.filter(pk=alice.pk).update(time_zone="America/New_York")
        began = datetime(2026, 8, 1, 3, 59, tzinfo=UTC)  # 23:59 on the day before
        Call.objects.filter(pk=call.pk).update(created_at=began)
        self.end(call)
        assert self.day(alice).day == date(2026, 7, 31)

    def test_a_call_that_goes_on_after_all_counts_when_it_ends(
        self, alice: Account, call: Call
    ) -> None:
        call_accept(call, onCallStartMs=100)
        call_connect(call, now=timezone.now())
        call_end_lost(call_id=call.id, ended_at=timezone.now() + timedelta(seconds=5))
        assert self.day(alice).failed == 1
        call_resume(call_id=call.id)
        day = self.day(alice)
        assert (day.calls, sum(day.on_call_start)) == (0, 0)
        self.end(call)
        day = self.day(alice)
        assert (day.completed, day.failed, sum(day.on_call_start)) == (1, 0, 1)

    def test_what_an_engine_reports_after_the_loss_counts_when_the_call_ends(
        self, alice: Account, call: Call
    ) -> None:
        now = timezone.now()
        call_accept(call)
        call_connect(call, now=now)
        call_note(call, EventKind.AGENT_SPOKE, at=now, latencyMs=100)
        call_end_lost(call_id=call.id, ended_at=now + timedelta(seconds=5))
        later = now + timedelta(seconds=20)
        call_note(call, EventKind.AGENT_SPOKE, at=later, latencyMs=800)
        call_resume(call_id=call.id)
        assert not any(self.day(alice).turns)
        call_end(
            call_id=call.id,
            status="completed",
            reason=EndedReason.CALLER_HANGUP,
            ended_at=later + timedelta(seconds=1),
        )
        assert sum(self.day(alice).turns) == 2

    def test_nobody_sees_the_days_of_another(self, bob: Account, call: Call) -> None:
        call_note(call, EventKind.AGENT_SPOKE, latencyMs=800)
        self.end(call)
        assert days_since(bob, date(2000, 1, 1)) == {}
        assert busiest_numbers(bob, date(2000, 1, 1), most=10) == []


@pytest.mark.django_db
class TestNumbers:
    def end(self, call: Call, number: str, *latencies: int, **fields: Any) -> Call:
        """End another call of a number, in which the agent responded this fast."""
        call.pk, call.call_sid = new_id(), f"CA{Call.objects.count():032}"
        call.called_number = number
        for name, value in fields.items():
            setattr(call, name, value)
        call.save(force_insert=True)
        for latency in latencies:
            call_note(call, EventKind.AGENT_SPOKE, latencyMs=latency)
        reason = EndedReason.CALLER_HANGUP
        call_end(call_id=call.id, status=Call.Status.COMPLETED, reason=reason)
        return call

    def found(self, account: Account, *, most: int = 10) -> list[tuple[str, int, int | None]]:
        first = timezone.now().date() - timedelta(days=29)
        numbers = busiest_numbers(account, first, most=most)
        return [(each.number, each.responses, each.latencies.percentile(0.5)) for each in numbers]

    def test_days_add_up_and_the_busiest_comes_first(self, alice: Account, call: Call) -> None:
        yesterday = timezone.now() - timedelta(days=1)
        self.end(call, "+15550000001", 400)
        self.end(call, "+15550000002", 800, 800)
        self.end(call, "+15550000002", 800, created_at=yesterday)
        assert NumberDay.objects.count() == 3
        slow, fast = (Latencies.of([ms]).percentile(0.5) for ms in (800, 400))
        assert self.found(alice) == [("+15550000002", 3, slow), ("+15550000001", 1, fast)]
        assert [number for number, _, _ in self.found(alice, most=1)] == ["+15550000002"]

    def test_an_outbound_call_counts_for_the_number_that_calls(
        self, alice: Account, call: Call
    ) -> None:
        outbound = {"direction": Call.Direction.OUTBOUND, "caller_phone": "+15550000001"}
        self.end(call, "+19805551234", 400, **outbound)
        assert [number for number, _, _ in self.found(alice)] == ["+15550000001"]

    def test_a_call_without_responses_and_one_of_long_ago_do_not_count(
        self, alice: Account, call: Call
    ) -> None:
        self.end(call, "+15550000001")
        self.end(call, "+15550000001", 400, created_at=timezone.now() - timedelta(days=40))
        assert self.found(alice) == []

    def test_a_call_that_goes_on_after_all_counts_once(self, alice: Account, call: Call) -> None:
        call_accept(call)
        call_connect(call, now=timezone.now())
        call_note(call, EventKind.AGENT_SPOKE, latencyMs=400)
        call_end_lost(call_id=call.id, ended_at=timezone.now())
        call_resume(call_id=call.id)
        assert self.found(alice) == []
        call_end(call_id=call.id, status="completed", reason=EndedReason.CALLER_HANGUP)
        [(_, responses, _)] = self.found(alice)
        assert responses == 1
