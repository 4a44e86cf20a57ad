"""The demo's checks, which make it a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.demo.calls import REMINDER, FollowedCall

Check = tuple[str, bool]


def check_inbound(call: FollowedCall) -> Iterator[Check]:
    """Yield the checks of the inbound call, and whether each holds."""
    spoken = " ".join(event["text"] for event in call.events("heard"))
    tool = call.callback("onToolCall")
    turns = _transcript(call)
    yield "The caller was connected, and the call ended as it should.", _went_through(call)
    yield "The caller's interruption stopped the agent.", bool(call.events("clear"))
    yield (
        "The tool ran in the backend, and the caller heard what it returned.",
        tool is not None and tool["status"] == 200 and "arrives in 12 minutes" in spoken,
    )
    yield (
        "The transcript has both sides, and marks the turn that was interrupted.",
        {turn["role"] for turn in turns} == {"user", "assistant"}
        and any(turn.get("interrupted") for turn in turns),
    )
    yield from _check_callbacks(call, ["onCallStart", "onToolCall", "onCallEnd"])


def check_outbound(call: FollowedCall) -> Iterator[Check]:
    """Yield the checks of the outbound call, and whether each holds."""
    spoken = " ".join(event["text"] for event in call.events("heard"))
    yield "The callee was connected, and the call ended as it should.", _went_through(call)
    yield "The callee heard the reminder.", REMINDER in spoken
    yield "The transcript has both sides.", len({turn["role"] for turn in _transcript(call)}) == 2
    yield from _check_callbacks(call, ["onCallStart", "onCallEnd"])


def check_usage(call: FollowedCall, records: list[dict[str, Any]], *, name: str) -> Check:
    """Return the check of the usage records with this call's SID."""
    report = call.callback("onCallEnd")
    agrees = (
        len(records) == 1
        and report is not None
        and records[0]["durationSeconds"] == report["body"]["durationSeconds"] > 0
        and records[0]["costBreakdown"] == report["body"]["costBreakdown"]
        and records[0]["costBreakdown"]["totalCost"] > 0
    )
    return f"The {name} call was counted once, with the figures the backend was told.", agrees


def check_invoice(before: float, charged: float, after: float) -> Check:
    """Return the check of the next invoice, in dollars."""
    agrees = round(after - before, 2) >= round(charged, 2) > 0
    return "The next invoice has these calls' minutes, at the price the backend was told.", agrees


def _went_through(call: FollowedCall) -> bool:
    [ended] = call.events("ended")
    return bool(ended["went_through"]) and not call.events("error")


def _transcript(call: FollowedCall) -> list[dict[str, Any]]:
    report = call.callback("onCallEnd")
    return list(report["body"]["transcript"]) if report else []


def _check_callbacks(call: FollowedCall, expected: list[str]) -> Iterator[Check]:
    yield (
        f"The backend got {', '.join(expected)} and nothing else, each with valid signatures.",
        [entry["callback"] for entry in call.callbacks] == expected
        and all(set(entry["signatures"].values()) == {"valid"} for entry in call.callbacks)
        and all(entry["status"] == 200 for entry in call.callbacks),
    )
