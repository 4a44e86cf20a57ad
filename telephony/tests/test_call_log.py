"""The line that each call leaves in the log when it ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from telephony.engine.costs import TokenUsage
from telephony.models import Call
from telephony.outcomes import Outcome
from telephony.services import call_accept, call_connect, call_end, call_end_lost, call_resume

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connected(call):
    call_accept(call, onCallStartMs=120, onCallStartStatus=200)
    assert call_connect(call, now=timezone.now(), engine_id="c" + "1" * 24)
    return call


def test_it_tells_what_the_call_was_and_what_it_cost(connected, log_lines):
    at = connected.answered_at
    greeted = (at + timedelta(seconds=1), "greeted", {"ms": 1000})
    said = (at + timedelta(seconds=9), "agent_spoke", {"latencyMs": 700})
    outcome = Outcome("gpt-realtime-1.5", usage=TokenUsage(audio_out=1000), billed_from=at)
    ended_at = at + timedelta(seconds=61)
    call_end(
        call_id=connected.id,
        status="completed",
        reason="caller_hangup",
        ended_at=ended_at,
        outcome=outcome,
        events=[greeted, said],
    )
    [line] = log_lines("call_ended")
    for name in ("timestamp", "process", "version", "logger", "event", "level"):
        del line[name]
    assert line == {
        "call_id": connected.id,
        "call_sid": connected.call_sid,
        "account_id": connected.account_id,
        "number": "+15551234567",
        "direction": "inbound",
        "is_test": False,
        "status": "completed",
        "outcome": "completed",
        "reason": "caller_hangup",
        "code": None,
        "engine_id": "c" + "1" * 24,
        "duration_s": 61,
        "billed_minutes": 2,
        "platform_cost": 0.1,
        "twilio_cost": 0.0258,
        "openai_cost": 0.064,
        "model": None,
        "on_call_start_ms": 120,
        "first_audio_ms": 1000,
        "turns": 1,
        "turn_ms_median": 700,
        "turn_ms_max": 700,
        "interruptions": 0,
        "tools": 0,
        "tools_failed": 0,
    }


def test_the_other_party_is_not_in_it(connected, log_lines):
    call_end(call_id=connected.id, status="completed", reason="caller_hangup")
    assert connected.caller_phone not in str(log_lines())


def test_it_is_written_once_and_after_the_commit(call, log_lines):
    with transaction.atomic():
        call_end(call_id=call.id, status="failed", reason="failed")
        transaction.set_rollback(True)
    assert log_lines("call_ended") == []
    with transaction.atomic():
        call_end(call_id=call.id, status="rejected", reason="rejected")
        assert log_lines("call_ended") == []
    call_end(call_id=call.id, status="rejected", reason="rejected")
    [line] = log_lines("call_ended")
    assert (line["reason"], line["billed_minutes"], line["openai_cost"]) == ("rejected", 0, 0)


def test_a_call_that_was_not_lost_after_all_ends_again(connected, log_lines):
    call_end_lost(call_id=connected.id, ended_at=timezone.now())
    assert call_resume(call_id=connected.id)
    call_end(call_id=connected.id, status="completed", reason="caller_hangup")
    names = ("event", "reason", "call_sid")
    assert [tuple(line.get(name) for name in names) for line in log_lines()] == [
        ("call_ended", "engine_lost", connected.call_sid),
        ("call_resumed", None, connected.call_sid),
        ("call_ended", "caller_hangup", connected.call_sid),
    ]


def test_an_outbound_call_has_the_accounts_number_and_no_call_sid_before_twilio_has(
    alice, log_lines
):
    call = Call.objects.create(
        account=alice,
        direction="outbound",
        status="queued",
        caller_phone="+15551234567",
        called_number="+19805550000",
    )
    call_end(call_id=call.id, status="failed", reason="failed", problem="carrier_rejected")
    [line] = log_lines("call_ended")
    assert (line["number"], line["code"]) == ("+15551234567", "carrier_rejected")
    assert "call_sid" not in line
    assert "+19805550000" not in str(line)
