"""The invariants find every fault in the records of a call."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from devtools.attack.internet import Desk
from devtools.attack.voice import TwilioAccount
from devtools.chaos.invariants import Record, expect_right_minutes, expect_told_once
from devtools.chaos.probes import Probes, Seen
from devtools.chaos.report import Notes, Report
from devtools.chaos.traffic import Customer, Placed, TalkingCall
from devtools.chaos.waiting import longest_gap


def a_call(*, lasted: float = 60.0, killed_after: float | None = None) -> Placed:
    account, desk = TwilioAccount(), Desk("desk")
    nobody: Any = None
    call = TalkingCall(account, "CA1", {}, nobody, opened=100.0, closed=100.0 + lasted)
    line: Any = SimpleNamespace(desk=desk)
    killed_at = None if killed_after is None else 100.0 + killed_after
    return Placed(Customer(nobody, line), "CA1", "engine", call, killed_at)


def a_record(lasted: float, billed: float | None = None) -> Record:
    billed = lasted if billed is None else billed
    return Record(
        "CA1", "caller_hangup", round(lasted), lasted, is_ended=True, was_lost=False, billed=billed
    )


def told(placed: Placed, webhook_id: str, *texts: str, reason: str = "caller_hangup") -> None:
    lines = [{"role": "assistant", "text": text} for text in texts]
    body = {"callSid": "CA1", "endedReason": reason, "transcript": lines}
    placed.customer.line.desk.received.append(("end", body))
    placed.customer.line.desk.webhook_ids.append(webhook_id)


def asked(placed: Placed, turn: int) -> None:
    body = {"callSid": "CA1", "arguments": {"turn": turn}}
    placed.customer.line.desk.received.append(("tool", body))
    placed.customer.line.desk.webhook_ids.append("msg_tool")


@pytest.mark.parametrize(
    ("killed_after", "recorded", "holds"),
    [
        (None, 59.5, True),
        (None, 61.5, False),
        (None, 2.0, False),
        (30.0, 28.0, True),
        (30.0, 20.0, False),
        (30.0, 62.5, False),
        (2.0, 0.0, True),
    ],
)
def test_minutes(killed_after: float | None, recorded: float, holds: bool) -> None:
    report = Report()
    placed = a_call(lasted=60.0, killed_after=killed_after)
    expect_right_minutes(Notes("kills", report), placed, a_record(recorded))
    assert (not report.findings) is holds


@pytest.mark.parametrize(("recorded", "holds"), [(57.5, True), (56.5, False), (61.5, False)])
def test_minutes_of_a_call_that_ends_between_two_streams(recorded: float, holds: bool) -> None:
    report = Report()
    record = replace(a_record(recorded), engine_id="")
    expect_right_minutes(Notes("rolling", report), a_call(lasted=60.0), record)
    assert (not report.findings) is holds


@pytest.mark.parametrize(("billed", "holds"), [(59.0, True), (0.0, False), (60.5, False)])
def test_billed_minutes(billed: float, holds: bool) -> None:
    report = Report()
    expect_right_minutes(Notes("kills", report), a_call(), a_record(60.0, billed))
    assert (not report.findings) is holds


@pytest.mark.parametrize(
    ("timeline", "billed", "holds"),
    [
        ("connected 0.00, model_ready 6.43, ended 60.00", 53.57, True),
        ("connected 0.00, moved 6.12, model_ready 6.43, ended 60.00", 53.57, True),
        ("connected 0.00, model_ready 0.43, moved 7.12, model_ready 7.5, ended 60.00", 59.57, True),
        ("connected 0.00, model_ready 0.43, moved 7.12, model_ready 7.5, ended 60.00", 52.5, False),
        ("connected 0.00, model_ready 6.43, ended 60.00", 60.0, False),
        ("connected 0.00, model_ready 0.43, ended 60.00", 58.5, False),
        ("connected 0.00, ended 60.00", 53.57, False),
    ],
)
def test_a_call_is_billed_from_when_its_model_was_ready(
    timeline: str, billed: float, holds: bool
) -> None:
    report = Report()
    record = replace(a_record(60.0, billed), timeline=timeline)
    expect_right_minutes(Notes("kills", report), a_call(), record)
    assert (not report.findings) is holds


def findings(placed: Placed, *, may_be_resumed: bool = False) -> list[str]:
    report = Report()
    expect_told_once(Notes("kills", report), placed, may_be_resumed=may_be_resumed)
    return [finding.case for finding in report.findings]


def test_a_retried_end_counts_once_and_two_ends_count_twice() -> None:
    placed = a_call()
    assert findings(placed) == ["The end of a call is reported once (by webhook-id)."]
    told(placed, "msg_1")
    told(placed, "msg_1")
    assert findings(placed) == []
    told(placed, "msg_2")
    assert findings(placed) == ["The end of a call is reported once (by webhook-id)."]
    assert findings(placed, may_be_resumed=True) != []


def test_a_call_considered_lost_is_reported_again() -> None:
    placed = a_call()
    told(placed, "msg_1", reason="engine_lost")
    told(placed, "msg_2")
    assert findings(placed, may_be_resumed=True) == []
    assert findings(placed) != []


def test_a_transcript_may_lack_the_last_turn_and_no_other() -> None:
    placed = a_call()
    for turn in (1, 2, 3):
        asked(placed, turn)
    told(placed, "msg_1", "Turn 1.", "Turn 2.")
    assert findings(placed) == []
    placed = a_call()
    for turn in (1, 2, 3):
        asked(placed, turn)
    told(placed, "msg_1", "Turn 2.", "Turn 3.")
    assert findings(placed) == ["A transcript lacks at most the last turn."]


def test_things_are_as_usual_after_the_last_that_was_not() -> None:
    nothing: Any = SimpleNamespace(seconds=0.1)
    seen = [Seen("API", at, nothing, is_usual) for at, is_usual in ((1, True), (2, False))]
    assert Probes(seen).usual_again("API", 1.5) is None
    seen += [Seen("API", 4.0, nothing, is_usual=True), Seen("voice", 9.0, nothing, is_usual=False)]
    assert Probes(seen).usual_again("API", 1.5) == 2.5


def test_the_longest_gap_counts_both_ends() -> None:
    assert longest_gap([2.0, 3.0], 1.0, 7.0) == 4.0
    assert longest_gap([], 1.0, 7.0) == 6.0
