"""The life of a call in the database."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, connections
from django.utils import timezone

from core.sealing import seal, unseal
from telephony.engine.codes import EndedReason, ErrorCode
from telephony.engine.costs import TokenUsage
from telephony.models import Call, CallbackDelivery, CallEvent, CallProgress
from telephony.outcomes import Outcome, opened
from telephony.services import (
    call_accept,
    call_audio_ended,
    call_connect,
    call_end,
    call_end_lost,
    call_move,
    call_record,
    call_resume,
    transcript_line,
)
from usage.models import DailyUsage, TotalUsage, UsageRecord

CALL_SID = "CA" + "0" * 32


@pytest.fixture
def connected(call):
    """A call that was connected now. Its model was ready at once."""
    call_accept(call)
    assert call_connect(call, now=timezone.now())
    Call.objects.update(billed_from=call.answered_at)
    return call


def end(call, **options):
    options = {"status": "completed", "reason": "caller_hangup", **options}
    return call_end(call_id=call.id, **options)


class TestTheEnd:
    def test_it_writes_call_usage_totals_and_callback(self, connected):
        outcome = Outcome(
            "gpt-realtime-1.5",
            [transcript_line("user", "Hi", connected.answered_at, interrupted=False)],
            TokenUsage(audio_out=1000),
            billed_from=connected.answered_at,
        )
        ended_at = connected.answered_at + timedelta(seconds=61)
        assert end(connected, ended_at=ended_at, outcome=outcome)
        connected.refresh_from_db()
        assert (connected.status, connected.ended_reason) == ("completed", "caller_hangup")
        assert connected.duration_seconds == 61
        record = UsageRecord.objects.get()
        assert (record.call_sid, record.minutes) == (CALL_SID, 2)
        assert record.cost_breakdown == {
            "platformCost": 0.1,
            "twilioCost": 0.0258,
            "openaiCost": 0.064,
            "totalCost": 0.1898,
        }
        assert TotalUsage.objects.get().minutes == DailyUsage.objects.get().minutes == 2
        assert CallbackDelivery.objects.get().kind == "onCallEnd"
        assert CallEvent.objects.filter(kind="ended").count() == 1

    def test_it_happens_once(self, connected):
        assert end(connected)
        assert not end(connected, reason="engine_lost", errors=[("engine_lost", "…")])
        connected.refresh_from_db()
        assert connected.ended_reason == "caller_hangup"
        assert UsageRecord.objects.count() == CallbackDelivery.objects.count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_of_many_at_the_same_time_one_ends_it(self, connected):
        def try_to_end(number):
            try:
                return end(connected, reason=f"reason {number}")
            finally:
                connections.close_all()

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(try_to_end, range(16))) == 1
        assert UsageRecord.objects.count() == CallbackDelivery.objects.count() == 1
        assert TotalUsage.objects.get().calls == 1

    def test_a_begun_second_is_a_second(self, connected):
        end(connected, ended_at=connected.answered_at + timedelta(milliseconds=1))
        assert UsageRecord.objects.get().duration_seconds == 1

    def test_a_call_that_was_not_connected_costs_nothing(self, call):
        call_accept(call)
        end(call, status="failed", reason="failed", ended_at=timezone.now() + timedelta(hours=1))
        record = UsageRecord.objects.get()
        assert (record.minutes, record.total_cost) == (0, Decimal(0))
        assert CallbackDelivery.objects.get().kind == "onCallEnd"

    def test_a_call_that_nobody_accepted_leaves_its_record_alone(self, call):
        end(call, status="rejected", reason="rejected")
        call.refresh_from_db()
        assert call.ended_at
        assert not UsageRecord.objects.exists()
        assert not CallbackDelivery.objects.exists()

    def test_errors_are_reported_with_it(self, call):
        end(call, errors=[("call_start_timeout", "No answer.")])
        assert CallbackDelivery.objects.get().kind == "onError"
        event = CallEvent.objects.get(kind="error")
        assert event.detail == {"code": "call_start_timeout", "message": "No answer."}

    def test_a_clock_that_went_back_does_not_make_it_negative(self, connected):
        end(connected, ended_at=connected.answered_at - timedelta(seconds=5))
        assert UsageRecord.objects.get().duration_seconds == 0


class TestErrorCode:
    """Lists, filters and mails tell from it what went wrong."""

    def ended(self, call, **options):
        end(call, **options)
        call.refresh_from_db()
        return call.error_code, call.outcome

    def test_a_call_that_went_well_has_none(self, connected):
        assert self.ended(connected) == ("", "completed")

    def test_the_last_error_counts(self, connected):
        errors = [("model_rate_limit_exceeded", "One."), (ErrorCode.MODEL_DISCONNECTED, "Two.")]
        reason = EndedReason.MODEL_DISCONNECTED
        assert self.ended(connected, reason=reason, errors=errors) == (
            "model_disconnected",
            "failed",
        )

    def test_a_code_of_openai_that_is_too_long_is_cut(self, connected):
        errors = [("model_" + "x" * 500, "Long.")]
        code, _ = self.ended(connected, reason=EndedReason.MODEL_ERROR, errors=errors)
        assert code == "model_" + "x" * 74

    def test_a_call_that_was_never_connected_says_so(self, call):
        assert self.ended(call, reason=EndedReason.FAILED) == ("not_connected", "failed")

    @pytest.mark.parametrize(
        ("statuses", "code"),
        [
            (["succeeded"], ""),
            (["succeeded", "failed", "timed_out"], "tool_failed"),
            (["timed_out"], "tool_timeout"),
            (["unknown"], ""),
        ],
    )
    def test_a_completed_call_names_its_first_problem_with_a_tool(self, connected, statuses, code):
        runs = [
            {"toolName": "t", "status": status, "result": "", "timestamp": "2026-01-01T00:00:00Z"}
            for status in statuses
        ]
        outcome = Outcome("gpt-realtime-1.5", tool_calls=runs)
        assert self.ended(connected, outcome=outcome) == (code, "completed")

    def test_a_call_that_goes_on_after_all_has_none(self, connected):
        assert call_end_lost(call_id=connected.id, ended_at=timezone.now())
        connected.refresh_from_db()
        assert connected.error_code == "engine_lost"
        call_resume(call_id=connected.id)
        connected.refresh_from_db()
        assert (connected.error_code, connected.outcome) == ("", "in-progress")


class TestBilling:
    """Minutes count from when the model was ready; Twilio's count from the connection."""

    @pytest.fixture
    def unready(self, connected):
        """A connected call whose model is not ready yet."""
        Call.objects.update(billed_from=None)
        return connected

    def after(self, call, seconds):
        return call.answered_at + timedelta(seconds=seconds)

    def ready_after(self, call, seconds):
        return Outcome("gpt-realtime-1.5", billed_from=self.after(call, seconds))

    def charged(self):
        """The minutes of the usage record, of the totals, and Twilio's estimate."""
        record = UsageRecord.objects.get()
        assert TotalUsage.objects.get().minutes == record.minutes
        assert DailyUsage.objects.get().minutes == record.minutes
        return record.minutes, record.platform_cost, record.twilio_cost

    def test_a_call_whose_model_was_never_ready_has_no_minutes(self, unready):
        end(unready, ended_at=self.after(unready, 61), outcome=Outcome())
        assert self.charged() == (0, 0, Decimal("0.0258"))
        assert told(unready)["durationSeconds"] == UsageRecord.objects.get().duration_seconds == 61
        assert told(unready)["costBreakdown"]["platformCost"] == 0
        assert TotalUsage.objects.get().calls == 1

    def test_the_time_before_that_is_free(self, unready):
        end(unready, ended_at=self.after(unready, 61), outcome=self.ready_after(unready, 1))
        assert self.charged() == (1, Decimal("0.05"), Decimal("0.0258"))
        assert told(unready)["durationSeconds"] == 61

    def test_the_sweep_bills_from_what_was_stored(self, unready):
        call_record(unready.id, unready.account_id, [], self.ready_after(unready, 1))
        call_end_lost(call_id=unready.id, ended_at=self.after(unready, 121))
        assert self.charged()[0] == 2

    def test_it_bills_although_the_conversation_cannot_be_read(self, unready, settings):
        call_record(unready.id, unready.account_id, [], self.ready_after(unready, 1))
        settings.SECRET_KEY = "another" * 10
        call_end_lost(call_id=unready.id, ended_at=self.after(unready, 61))
        assert self.charged()[0] == 1

    def test_a_call_that_is_lost_before_it_was_stored_is_free(self, unready):
        call_end_lost(call_id=unready.id, ended_at=self.after(unready, 61))
        assert self.charged()[0] == 0

    def test_a_call_that_was_lost_before_it_was_stored_is_billed_when_it_returns(self, unready):
        call_end_lost(call_id=unready.id, ended_at=self.after(unready, 10))
        assert UsageRecord.objects.get().minutes == 0
        assert call_resume(call_id=unready.id)
        end(unready, ended_at=self.after(unready, 121), outcome=self.ready_after(unready, 1))
        assert [each.minutes for each in UsageRecord.objects.order_by("part")] == [0, 2]
        assert TotalUsage.objects.get().minutes == 2

    def test_a_late_write_changes_no_ended_call(self, unready):
        end(unready, ended_at=self.after(unready, 5), outcome=Outcome())
        call_record(unready.id, unready.account_id, [], self.ready_after(unready, 1))
        unready.refresh_from_db()
        assert unready.billed_from is None

    def test_the_engine_knows_better_than_what_it_stored(self, unready):
        """Its model failed before the agent had said a word."""
        call_record(unready.id, unready.account_id, [], self.ready_after(unready, 1))
        end(unready, ended_at=self.after(unready, 5), outcome=Outcome())
        assert self.charged()[0] == 0

    def test_a_call_that_ended_before_that_has_no_negative_minutes(self, unready):
        end(unready, ended_at=self.after(unready, 1), outcome=self.ready_after(unready, 2))
        assert self.charged()[0] == 0


class TestProgress:
    OUTCOME = Outcome("gpt-realtime-1.5", [{"role": "user", "text": "canary"}], TokenUsage(1))

    def test_it_is_kept_sealed_and_counts_when_nobody_knows_better(self, connected):
        call_record(connected.id, connected.account_id, [], self.OUTCOME)
        kept = CallProgress.objects.get()
        assert b"canary" not in bytes(kept.sealed)
        end(connected, reason="engine_lost")
        assert not CallProgress.objects.exists()
        assert UsageRecord.objects.get().openai_cost == Decimal("0.000004")
        body = unseal(CallbackDelivery.objects.get().sealed_body, purpose=CallbackDelivery.PURPOSE)
        assert b"canary" in body

    def test_who_knows_better_wins(self, connected):
        call_record(connected.id, connected.account_id, [], self.OUTCOME)
        end(connected, outcome=Outcome())
        assert not CallProgress.objects.exists()
        assert UsageRecord.objects.get().openai_cost == 0

    def test_nothing_is_kept_of_a_call_that_has_ended(self, connected):
        end(connected)
        call_record(connected.id, connected.account_id, [], self.OUTCOME)
        assert not CallProgress.objects.exists()

    def test_a_finished_turn_alone_is_a_reason_to_write(self, connected):
        call_record(connected.id, connected.account_id, [], self.OUTCOME)
        assert opened(CallProgress.objects.get()) == self.OUTCOME

    def test_an_engine_changes_nothing_about_a_call_that_another_one_has(self, connected):
        Call.objects.update(engine_id="now")
        call_record(connected.id, connected.account_id, [], self.OUTCOME, held_by="before")
        assert not CallProgress.objects.exists()
        call_audio_ended(call_id=connected.id, at=timezone.now(), held_by="before")
        assert not end(connected, held_by="before")
        assert Call.objects.live().filter(audio_ended_at=None).exists()
        assert call_end_lost(call_id=connected.id, ended_at=timezone.now())
        assert not call_resume(call_id=connected.id, held_by="before")
        assert call_resume(call_id=connected.id, held_by="now")

    def test_a_call_whose_caller_has_hung_up_does_not_move(self, connected):
        """It no longer counts as one in progress: it would come back past the account's limit."""
        Call.objects.update(engine_id="now")
        call_audio_ended(call_id=connected.id, at=timezone.now(), held_by="now")
        assert not call_move(connected, now=timezone.now(), engine_id="next")
        Call.objects.update(engine_id="")  # its stream broke
        assert call_move(connected, now=timezone.now(), engine_id="next")

    def test_only_the_first_is_a_sign_of_life(self, connected):
        for seen_again in (True, False):
            before = Call.objects.get().last_seen_at
            call_record(connected.id, connected.account_id, [], self.OUTCOME)
            assert (Call.objects.get().last_seen_at > before) is seen_again
        call_record(
            connected.id, connected.account_id, [], replace(self.OUTCOME, billed_from=before)
        )
        assert Call.objects.get().billed_from == before

    def test_what_changes_during_a_call_is_in_no_index(self, db):
        """An update of an indexed column writes to every index of the table."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT string_agg(indexdef, ' ') FROM pg_indexes WHERE tablename = %s",
                [Call._meta.db_table],
            )
            (definitions,) = cursor.fetchone()
        assert "created_at" in definitions
        for name in ("last_seen_at", "held_until", "billed_from", "metadata", "audio_ended_at"):
            assert name not in definitions

    def test_a_lost_key_does_not_keep_a_call_from_its_end(self, connected, settings):
        call_record(connected.id, connected.account_id, [], self.OUTCOME)
        settings.SECRET_KEY = "another" * 10
        assert end(connected)
        assert UsageRecord.objects.get().openai_cost == 0


LINE = {"role": "user", "text": "Hi", "timestamp": "2026-11-01T00:00:00.000Z"}
WHOLE = {"model": "gpt-realtime-1.5", "transcript": [LINE], "usage": {"audio_out": 1000}}
LOST_COST = {"missing": "cost"}
LOST_ALL = {"missing": "cost, transcript"}


class TestStoredForms:
    """The stored outcome was written by another version, or is broken: the call still ends."""

    @pytest.mark.parametrize(
        ("stored", "transcript", "cost", "said"),
        [
            (json.dumps(WHOLE), [LINE], "0.064", None),
            # Another version's: a count that this one does not know, one that it knows alone.
            (json.dumps(WHOLE | {"usage": {"video_in": 7}}), [LINE], "0", LOST_COST),
            (json.dumps(WHOLE | {"pace": 2}), [LINE], "0.064", None),
            (json.dumps(WHOLE | {"usage": {"audio_out": 1000.0}}), [LINE], "0.064", None),
            (json.dumps(WHOLE | {"usage": {"audio_out": "1000"}}), [LINE], "0", LOST_COST),
            (json.dumps(WHOLE | {"usage": {"audio_out": float("nan")}}), [LINE], "0", LOST_COST),
            (json.dumps(WHOLE | {"usage": {"audio_out": True}}), [LINE], "0", LOST_COST),
            (json.dumps(WHOLE | {"usage": {"audio_out": 10**40}}), [LINE], "0", LOST_COST),
            (json.dumps(WHOLE | {"usage": {"audio_out": 10**15}}), [LINE], "0", LOST_COST),
            (json.dumps(WHOLE | {"usage": None}), [LINE], "0", LOST_COST),
            (json.dumps(WHOLE | {"model": None}), [LINE], "0.064", LOST_COST),
            (
                json.dumps(WHOLE | {"transcript": [LINE, 7]}),
                [LINE],
                "0.064",
                {"missing": "transcript"},
            ),
            (json.dumps(WHOLE | {"transcript": {}}), [], "0.064", {"missing": "transcript"}),
            ("[]", [], "0", LOST_ALL),
            ('{"model": "gpt-re', [], "0", LOST_ALL),
            ("[" * 100_000, [], "0", LOST_ALL),
        ],
    )
    def test_the_call_ends_and_is_charged(self, connected, stored, transcript, cost, said):
        sealed = seal(stored.encode(), purpose=CallProgress.PURPOSE)
        CallProgress.objects.create(call=connected, account=connected.account, sealed=sealed)
        assert end(connected, ended_at=connected.answered_at + timedelta(seconds=61))
        record = UsageRecord.objects.get()
        assert (record.minutes, record.openai_cost) == (2, Decimal(cost))
        assert told(connected)["transcript"] == transcript
        notes = CallEvent.objects.filter(kind="incomplete").values_list("detail", flat=True)
        assert list(notes) == ([said] if said else [])

    def test_a_cost_that_cannot_be_computed_is_said_to_be_missing(self, connected):
        usage = TokenUsage(audio_out=float("inf"))
        assert end(connected, outcome=Outcome("gpt-realtime-1.5", [LINE], usage))
        assert UsageRecord.objects.get().openai_cost == 0
        assert told(connected)["transcript"] == [LINE]
        assert CallEvent.objects.get(kind="incomplete").detail == LOST_COST


def told(call):
    """Return onCallEnd as it waits in the outbox."""
    delivery = CallbackDelivery.objects.get(call=call, kind="onCallEnd")
    return json.loads(unseal(delivery.sealed_body, purpose=CallbackDelivery.PURPOSE))


class TestConnecting:
    def test_it_starts_the_billing_once(self, call):
        call_accept(call)
        now = timezone.now()
        assert call_connect(call, now=now)
        assert not call_connect(call, now=now + timedelta(minutes=1))
        call.refresh_from_db()
        assert call.answered_at == now

    def test_a_call_that_has_ended_is_not_connected(self, call):
        end(call)
        assert not call_connect(call, now=timezone.now())
