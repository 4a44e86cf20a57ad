"""Calls, their events and their callbacks in words, for pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from telephony.models import Call, CallEvent

REASONS = {
    "caller_hangup": "Caller hung up",
    "agent_hangup": "Agent hung up",
    "transferred": "Transferred",
    "inactivity": "Silence",
    "max_duration": "Longest duration",
    "api_hangup": "Hung up by you",
    "model_error": "Model error",
    "model_disconnected": "Model disconnected",
    "engine_lost": "Engine lost",
    "internal_error": "Internal error",
    "rejected": "Rejected",
    "busy": "Busy",
    "no_answer": "No answer",
    "canceled": "Canceled",
    "failed": "Failed",
}
STATUSES = {
    Call.Status.QUEUED: "Queued",
    Call.Status.RINGING: "Ringing",
    Call.Status.IN_PROGRESS: "In progress",
}
# How a badge looks, by outcome.
_TONES = {"in-progress": "note", "completed": "good", "failed": "bad"}

_EVENTS = {
    "received": "Somebody called",
    "placed": "You placed the call",
    "ringing": "It rings",
    "answered": "It was answered",
    "accepted": "Your backend took the call",
    "declined": "Your backend declined the call",
    "not_accepted": "The call could not be taken",
    "refused": "The call was refused, and your backend was not asked",
    "transferred": "Your backend had it put through",
    "connected": "The audio is connected",
    "model_ready": "The model is ready",
    "greeted": "The agent began to speak",
    "caller_spoke": "The caller spoke",
    "agent_spoke": "The agent spoke",
    "interrupted": "The caller interrupted the agent",
    "response_done": "The model ended a response",
    "response_failed": "A response failed, and is tried again",
    "model_error": "OpenAI reported an error",
    "not_spoken": "The caller heard no answer",
    "not_understood": "OpenAI sent an event that could not be read",
    "repeated": "OpenAI sent an event twice",
    "response_lost": "OpenAI did not begin a response, or did not report its end",
    "speech_end_lost": "OpenAI did not report that the caller stopped speaking",
    "marks_lost": "Twilio did not report what was played",
    "tools_dropped": "Tools that the model called were not run",
    "tool_called": "A tool was called",
    "tool_returned": "The tool returned",
    "tool_failed": "The tool failed",
    "tool_timeout": "The tool did not answer in time",
    "text_typed": "The caller typed",
    "digit_pressed": "The caller pressed a key",
    "hangup_requested": "You asked for the end",
    "stream_error": "Twilio reported an error of the stream",
    "carrier_rejected": "Twilio refused the call",
    "carrier_unavailable": "Twilio could not be reached",
    "error": "An error was reported",
    "incomplete": "Part of the call's record was lost",
    "resumed": "The call had continued: only the connection to our database was lost",
    "ended": "The call ended",
}
_BAD = {
    "not_accepted",
    "response_failed",
    "model_error",
    "not_spoken",
    "not_understood",
    "response_lost",
    "speech_end_lost",
    "marks_lost",
    "tools_dropped",
    "tool_failed",
    "tool_timeout",
    "stream_error",
    "carrier_rejected",
    "carrier_unavailable",
    "error",
    "incomplete",
}
_DETAILS = {
    "onCallStartMs": "onCallStart took {}",
    "latencyMs": "{} after the caller had spoken",
    "heardMs": "{} of the answer were heard",
}
_SPOKEN = "for {}"
_TOOK = "after {}"
# What a detail begins with; the database keeps no order.
_FIRST = ("tool", "code", "reason", "ms", "onCallStartMs")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the timeline; ``offset`` is the time since the call began."""

    at: datetime
    offset: str
    text: str
    details: list[str]
    tone: str


def outcome_label(call: Call) -> str:
    """Return what the badge of a call says."""
    if call.ended_reason:
        return REASONS.get(call.ended_reason, _plain(call.ended_reason))
    return STATUSES.get(Call.Status(call.status), "In progress")


def outcome_tone(call: Call) -> str:
    """Return how that badge looks; the call was read ``with_outcome``."""
    return _TONES.get(call.outcome, "")  # type: ignore[attr-defined]


def line_of(event: CallEvent, call: Call) -> Line:
    text = _EVENTS.get(event.kind, _plain(event.kind))
    first = [name for name in _FIRST if name in event.detail]
    names = [*first, *(name for name in event.detail if name not in first)]
    details = [_detail(event.kind, name, event.detail[name]) for name in names]
    return Line(
        at=event.at,
        offset=f"{max(0.0, (event.at - call.created_at).total_seconds()):.1f} s",
        text=text,
        details=[detail for detail in details if detail],
        tone="bad" if event.kind in _BAD else "",
    )


def length(seconds: int) -> str:
    """Return a duration: ``47 s``, ``3 min 07 s``."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def milliseconds(count: float) -> str:
    """Return ``84 ms`` or ``1.5 s``."""
    return f"{count / 1000:.1f} s" if count >= 1000 else f"{count:.0f} ms"


def _detail(kind: str, name: str, value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and name in _DETAILS:
        return _DETAILS[name].format(milliseconds(value))
    if is_number and name == "ms":
        return (_SPOKEN if kind == "caller_spoke" else _TOOK).format(milliseconds(value))
    match kind, name:
        case "ended", "reason":
            return REASONS.get(str(value), _plain(str(value)))
        case "response_done", "status":
            return str(value)
        case _, ("tool" | "code" | "message" | "model" | "why" | "to" | "reason"):
            return str(value)
        case _, "by":
            return "" if value == "unknown" else f"by {value}"
    return f"{name}: {value}" if not isinstance(value, Mapping) else ""


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()
