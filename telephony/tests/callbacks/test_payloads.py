"""The names of fields and their order, as in the contract."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from telephony.callbacks import payloads
from telephony.callbacks.payloads import CallFacts, metadata_problem
from telephony.models import Call

NOW = datetime(2026, 4, 1, 9, 30, tzinfo=UTC)
STAMP = "2026-04-01T09:30:00.000Z"


def test_call_start(facts: CallFacts) -> None:
    body = payloads.call_start(replace(facts, answered_by="human"), NOW)
    assert list(body.items()) == [
        ("callSid", facts.call_sid),
        ("callerPhone", "+19805551234"),
        ("callerNumber", "+19805551234"),
        ("calledNumber", "+15551234567"),
        ("direction", "inbound"),
        ("timestamp", STAMP),
        ("metadata", {"customerId": "cust_123"}),
        ("answeredBy", "human"),
    ]


def test_call_start_omits_absent_fields(facts: CallFacts) -> None:
    body = payloads.call_start(replace(facts, metadata=None), NOW)
    assert "metadata" not in body
    assert "answeredBy" not in body


@pytest.mark.parametrize("metadata", [{}, [], 0, False, ""])
def test_empty_metadata_is_included(facts: CallFacts, metadata: Any) -> None:
    assert payloads.call_start(replace(facts, metadata=metadata), NOW)["metadata"] == metadata


def test_tool_call(facts: CallFacts) -> None:
    body = payloads.tool_call(replace(facts, metadata=None), "find_order", {"number": 7}, NOW)
    assert list(body.items()) == [
        ("callSid", facts.call_sid),
        ("toolName", "find_order"),
        ("arguments", {"number": 7}),
        ("metadata", None),
        ("timestamp", STAMP),
    ]


def test_call_end(facts: CallFacts) -> None:
    line = {"role": "user", "text": "Hello", "timestamp": STAMP}
    body = payloads.call_end(
        facts,
        duration_seconds=47,
        ended_reason="caller_hangup",
        transcript=[line],
        tool_calls=[],
        cost_breakdown={"totalCost": 0.018},
        latency={"firstAudioMs": 840, "turnP50Ms": None, "turnP95Ms": None},
        now=NOW,
    )
    assert list(body.items()) == [
        ("callSid", facts.call_sid),
        ("callerPhone", "+19805551234"),
        ("callerNumber", "+19805551234"),
        ("calledNumber", "+15551234567"),
        ("direction", "inbound"),
        ("durationSeconds", 47),
        ("endedReason", "caller_hangup"),
        ("transcript", [line]),
        ("costBreakdown", {"totalCost": 0.018}),
        ("latency", {"firstAudioMs": 840, "turnP50Ms": None, "turnP95Ms": None}),
        ("metadata", {"customerId": "cust_123"}),
        ("timestamp", STAMP),
    ]


def test_error(facts: CallFacts) -> None:
    body = payloads.error(facts, code="model_unreachable", message="OpenAI is down.", now=NOW)
    assert list(body.items()) == [
        ("callSid", facts.call_sid),
        ("code", "model_unreachable"),
        ("message", "OpenAI is down."),
        ("callerPhone", "+19805551234"),
        ("callerNumber", "+19805551234"),
        ("calledNumber", "+15551234567"),
        ("metadata", {"customerId": "cust_123"}),
        ("timestamp", STAMP),
    ]


def test_facts_of_a_call() -> None:
    call = Call(
        call_sid=None,
        direction=Call.Direction.OUTBOUND,
        caller_phone="+15551234567",
        called_number="+19805551234",
        metadata={"a": 1},
        answered_by="machine_start",
    )
    assert CallFacts.of(call) == CallFacts(
        call_sid="",
        caller_phone="+15551234567",
        called_number="+19805551234",
        direction="outbound",
        metadata={"a": 1},
        answered_by="machine_start",
    )


@pytest.mark.parametrize("value", [{"näme": "☎ \ud800 \x00"}, 2**70, "</script>"])
def test_any_stored_value_can_be_encoded(value: Any) -> None:
    assert json.loads(payloads.encode({"metadata": value})) == {"metadata": value}


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "metadata",
    [
        *(None, {}, "a \\u0000 that is text", [{"a": [1.5, "ü"]}], _nested(32)),
        "a" * (16 * 1024 - 2),
    ],
    ids=lambda value: str(value)[:8],
)
def test_valid_metadata_is_accepted(metadata: Any) -> None:
    assert metadata_problem(metadata) is None


@pytest.mark.parametrize(
    "metadata",
    [
        *("\x00", {"\x00": 1}, ["\\\x00"], 2**70, "\ud800", "a" * (16 * 1024 - 1)),
        *(_nested(33), _nested(300)),
    ],
    ids=lambda value: repr(value)[:8],
)
def test_invalid_metadata_is_refused(metadata: Any) -> None:
    assert metadata_problem(metadata)
