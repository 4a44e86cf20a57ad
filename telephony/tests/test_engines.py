"""Engines that are up, engines that have died, and what happens to their calls."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from core.ids import new_id
from core.tests.rows import refuse
from telephony import engines
from telephony.engines import (
    GAP,
    LOST_AFTER,
    UNHELD_AFTER,
    are_others_ready,
    calls_end_stale,
    calls_sweep,
)
from telephony.models import Call, CallbackDelivery, Process, Watch
from telephony.outcomes import Outcome
from telephony.processes import Identity, process_beat
from telephony.services import (
    call_accept,
    call_audio_ended,
    call_connect,
    call_end,
    call_resume,
)
from telephony.voice import live
from telephony.voice.transactions import hand_over
from usage.models import DailyUsage, TotalUsage, UsageRecord

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
ENGINE = "engine"


def engine_beat(engine_id, **report):
    return process_beat(Identity(Process.Kind.ENGINE, id=engine_id), **report)


@pytest.fixture
def connected(call):
    """A call that an engine holds, whose caller and model were connected ten minutes ago."""
    engine_beat(ENGINE)
    call_accept(call)
    assert call_connect(call, now=timezone.now() - 10 * MINUTE, engine_id=ENGINE)
    Call.objects.update(last_seen_at=timezone.now(), billed_from=call.answered_at)
    return call


def is_live(call):
    return Call.objects.live().filter(pk=call.pk).exists()


def silence(duration):
    """Make the engine silent for this long, and its calls with it."""
    Process.objects.update(last_seen_at=timezone.now() - duration)
    Call.objects.update(last_seen_at=timezone.now() - duration)


def watched(duration, *, gap=timedelta(seconds=2)):
    """Make the database reachable for this long, last before the gap."""
    now = timezone.now()
    defaults = {"since": now - duration, "looked_at": now - gap}
    Watch.objects.update_or_create(pk=1, defaults=defaults)


class TestAnEngine:
    def test_others_are_ready_that_speak_and_are_not_about_to_stop(self):
        engine_beat(ENGINE)
        assert not are_others_ready(ENGINE)
        engine_beat("other", is_draining=True)
        assert not are_others_ready(ENGINE)
        process_beat(Identity(Process.Kind.WORKER))
        assert not are_others_ready(ENGINE)
        engine_beat("other")
        assert are_others_ready(ENGINE)
        silence(LOST_AFTER)
        assert not are_others_ready(ENGINE)


class TestTheSweep:
    def test_the_calls_of_a_silent_engine_are_over(self, connected):
        engine_beat(ENGINE, calls=1)
        silence(LOST_AFTER + timedelta(seconds=1))
        watched(MINUTE)
        assert calls_sweep() == 1
        connected.refresh_from_db()
        assert connected.ended_reason == "engine_lost"
        assert connected.ended_at == connected.last_seen_at
        engine = Process.objects.with_state().get()
        assert engine.state == Process.State.SILENT
        assert engine.last_seen_at < engine.lost_at
        assert engine.calls == 0

    def test_an_engine_that_was_taken_for_dead_may_return(self, connected):
        silence(LOST_AFTER + timedelta(seconds=1))
        watched(MINUTE)
        calls_sweep()
        assert not engine_beat(ENGINE)
        assert engine_beat(ENGINE)
        assert Process.objects.with_state().get().state == Process.State.UP
        assert call_resume(call_id=connected.id)
        watched(MINUTE)
        assert calls_sweep() == 0

    def test_they_are_charged_until_it_last_spoke(self, connected):
        silence(timedelta(seconds=30))
        Process.objects.update(last_seen_at=timezone.now() - timedelta(seconds=20))
        watched(MINUTE)
        assert calls_sweep() == 1
        connected.refresh_from_db()
        seconds = (timezone.now() - connected.ended_at).total_seconds()
        assert 20 <= seconds < 25

    def test_not_for_what_was_waited_for_after_the_caller_had_gone(self, connected):
        connected.refresh_from_db()
        gone_at = connected.answered_at + 5 * MINUTE
        call_audio_ended(call_id=connected.id, at=gone_at)
        silence(LOST_AFTER)
        watched(MINUTE)
        assert calls_sweep() == 1
        connected.refresh_from_db()
        assert (connected.ended_at, connected.duration_seconds) == (gone_at, 300)

    def test_an_engine_that_speaks_keeps_its_calls(self, connected):
        silence(LOST_AFTER + timedelta(seconds=1))
        engine_beat(ENGINE)
        watched(MINUTE)
        assert calls_sweep() == 0
        assert is_live(connected)

    @pytest.mark.parametrize(
        ("since", "gap"), [(LOST_AFTER / 2, timedelta(seconds=2)), (MINUTE, 2 * GAP)]
    )
    def test_nobody_is_judged_soon_after_an_outage(self, connected, since, gap):
        silence(10 * MINUTE)
        watched(since, gap=gap)
        assert calls_sweep() == 0
        assert is_live(connected)
        assert Process.objects.exists()

    def test_two_processes_sweep_in_turn(self, connected):
        silence(LOST_AFTER + timedelta(seconds=1))
        watched(MINUTE, gap=timedelta(0))
        assert calls_sweep() == 0
        assert is_live(connected)

    def test_a_call_that_its_engine_has_forgotten_is_over(self, connected):
        silence(UNHELD_AFTER + timedelta(seconds=1))
        engine_beat(ENGINE)
        watched(10 * MINUTE)
        assert calls_sweep() == 1
        assert not is_live(connected)

    def test_a_call_that_never_had_audio_costs_nothing(self, call):
        engine_beat(ENGINE)
        call_accept(call)
        assert call_connect(call, now=timezone.now() - 2 * LOST_AFTER, engine_id=ENGINE)
        Process.objects.update(last_seen_at=timezone.now() - 1.5 * LOST_AFTER)
        watched(MINUTE)
        assert calls_sweep() == 1
        assert (UsageRecord.objects.get().minutes, TotalUsage.objects.get().minutes) == (0, 0)

    def test_an_engine_that_was_just_removed_can_still_connect_a_call(self, call):
        call_accept(call)
        assert call_connect(call, now=timezone.now(), engine_id=ENGINE)
        watched(MINUTE)
        assert calls_sweep() == 0
        assert is_live(call)


class TestTheReturn:
    """A call that continued while its engine was cut off."""

    def lose(self, call, *, seconds):
        """End it as lost this many seconds after it began."""
        Call.objects.update(last_seen_at=call.answered_at + timedelta(seconds=seconds))
        Process.objects.all().delete()
        assert calls_end_stale(timezone.now()) == 1

    def end(self, call, *, seconds):
        ended_at = call.answered_at + timedelta(seconds=seconds)
        return call_end(
            call_id=call.id,
            status="completed",
            reason="caller_hangup",
            ended_at=ended_at,
            outcome=Outcome(billed_from=call.answered_at),
        )

    def test_it_is_live_again(self, connected):
        self.lose(connected, seconds=2)
        assert not is_live(connected)
        assert call_resume(call_id=connected.id)
        connected.refresh_from_db()
        assert (connected.status, connected.ended_reason) == ("in-progress", "")
        assert connected.duration_seconds == 0
        assert not call_resume(call_id=connected.id)
        assert connected.events.filter(kind="resumed").count() == 1

    def test_its_end_charges_what_was_not_charged_yet(self, connected):
        self.lose(connected, seconds=2)
        assert UsageRecord.objects.get().minutes == 1
        call_resume(call_id=connected.id)
        assert self.end(connected, seconds=201)
        first, second = UsageRecord.objects.order_by("part")
        assert (first.duration_seconds, first.minutes) == (2, 1)
        assert (second.duration_seconds, second.minutes) == (199, 3)
        assert second.identifier == f"{connected.call_sid}.2"
        whole = UsageRecord.objects.by_call([connected.call_sid])[connected.call_sid]
        assert (whole.duration_seconds, whole.minutes) == (201, 4)
        total, day = TotalUsage.objects.get(), DailyUsage.objects.get()
        assert (total.calls, total.minutes) == (day.calls, day.minutes) == (1, 4)

    def test_it_may_be_lost_again(self, connected):
        for seconds in (2, 70, 130):
            self.lose(connected, seconds=seconds)
            call_resume(call_id=connected.id)
        self.lose(connected, seconds=190)
        assert TotalUsage.objects.get().minutes == 4
        parts = UsageRecord.objects.order_by("part")
        assert [record.duration_seconds for record in parts] == [2, 68, 60, 60]

    def test_one_that_cannot_be_taken_back_keeps_no_other_from_it(self, connected):
        other = Call.objects.get(pk=connected.pk)
        other.pk, other.call_sid = new_id(), "CA" + "1" * 32
        other.save(force_insert=True)
        Process.objects.all().delete()
        assert calls_end_stale(timezone.now() + MINUTE) == 2
        refuse("telephony_call", f"NEW.ended_at IS NULL AND NEW.id = '{connected.pk}'")
        live._take_back([connected.pk, other.pk], ENGINE)
        assert not is_live(connected)
        assert is_live(other)

    def test_one_that_was_handed_over_and_stayed_is_held_again(self, connected):
        """Its engine does not know: the connection broke under the hand-over."""
        assert hand_over(connected, Outcome, ENGINE)
        Call.objects.update(held_until=timezone.now())
        assert calls_end_stale(timezone.now()) == 1
        live._take_back([connected.pk], ENGINE)
        assert is_live(connected)
        assert calls_end_stale(timezone.now()) == 0

    def test_what_was_charged_too_much_is_not_taken_back(self, connected):
        self.lose(connected, seconds=61)
        call_resume(call_id=connected.id)
        assert self.end(connected, seconds=59)
        assert UsageRecord.objects.get().minutes == TotalUsage.objects.get().minutes == 2

    def test_what_was_not_told_yet_is_not_told(self, connected):
        self.lose(connected, seconds=2)
        assert CallbackDelivery.objects.filter(state="pending").count() == 2
        call_resume(call_id=connected.id)
        assert not CallbackDelivery.objects.filter(state="pending").exists()
        self.end(connected, seconds=201)
        (delivery,) = CallbackDelivery.objects.filter(state="pending")
        assert (delivery.kind, delivery.is_superseded) == ("onCallEnd", False)

    def test_what_was_told_is_replaced(self, connected):
        self.lose(connected, seconds=2)
        CallbackDelivery.objects.update(state="delivered", sealed_body=None)
        call_resume(call_id=connected.id)
        self.end(connected, seconds=201)
        ends = CallbackDelivery.objects.filter(kind="onCallEnd").order_by("id")
        assert [each.state for each in ends] == ["delivered", "pending"]

    def test_a_call_that_ended_otherwise_is_over(self, connected):
        assert self.end(connected, seconds=5)
        assert not call_resume(call_id=connected.id)
        assert not is_live(connected)


class TestStaleCalls:
    def test_a_call_whose_engine_is_silent_ends_when_it_was_last_seen(self, connected):
        Call.objects.update(last_seen_at=connected.answered_at + timedelta(seconds=30))
        seen_at = connected.answered_at + timedelta(seconds=30)
        assert calls_end_stale(seen_at + timedelta(seconds=59)) == 0
        assert calls_end_stale(seen_at + timedelta(seconds=61)) == 1
        connected.refresh_from_db()
        assert (connected.ended_reason, connected.duration_seconds) == ("engine_lost", 30)

    def test_a_call_that_never_got_an_engine_ends_after_a_quarter_of_an_hour(self, call):
        assert calls_end_stale(call.created_at + timedelta(minutes=15)) == 0
        assert calls_end_stale(call.created_at + timedelta(minutes=15, seconds=1)) == 1
        call.refresh_from_db()
        assert call.ended_reason == "failed"

    def test_a_call_that_was_handed_over_lives_as_long_as_twilio_waits_for_us(self, connected):
        assert hand_over(connected, Outcome, ENGINE)
        connected.refresh_from_db()
        given_out_at = connected.last_seen_at
        assert calls_end_stale(given_out_at + timedelta(seconds=16)) == 0
        assert calls_end_stale(given_out_at + timedelta(seconds=21)) == 1

    def test_a_caller_whose_stream_broke_and_does_not_come_back_has_hung_up(self, connected):
        broke_at = connected.answered_at + timedelta(seconds=30)
        assert hand_over(connected, Outcome, ENGINE, broke_at)
        connected.refresh_from_db()
        assert calls_end_stale(connected.held_until) == 0
        assert calls_end_stale(connected.held_until + timedelta(seconds=1)) == 1
        connected.refresh_from_db()
        ended = connected.ended_reason, connected.error_code, connected.ended_at
        assert ended == ("caller_hangup", "", broke_at)

    def test_a_call_that_cannot_be_ended_keeps_no_other_from_its_end(
        self, alice, monkeypatch, log_lines
    ):
        monkeypatch.setattr(engines, "SWEPT_AT_ONCE", 2)
        long_ago = timezone.now() - timedelta(hours=1)
        calls = [
            Call.objects.create(
                account=alice,
                call_sid=f"CA{number:032x}",
                direction="inbound",
                status="in-progress",
                accepted_at=long_ago,
                answered_at=long_ago,
                last_seen_at=long_ago,
            )
            for number in range(4)
        ]
        bad = ", ".join(f"'{call.pk}'" for call in calls[:2])
        refuse("telephony_call", f"NEW.ended_at IS NOT NULL AND NEW.id IN ({bad})")
        ended = [calls_end_stale(timezone.now()) for _ in range(3)]
        assert sum(ended) == 2
        assert {call.pk for call in Call.objects.live()} == {call.pk for call in calls[:2]}
        failed = [line["call_id"] for line in log_lines("sweep_item_failed")]
        assert sorted(failed) == sorted(call.pk for call in calls[:2])
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER refuse ON telephony_call")
        assert calls_end_stale(timezone.now() + timedelta(minutes=2)) == 2

    def test_the_search_does_not_grow_with_history(self, connected, django_assert_num_queries):
        with django_assert_num_queries(4):
            calls_end_stale(timezone.now())
