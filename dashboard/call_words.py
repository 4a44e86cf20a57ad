"""Calls, their events and their callbacks in words, for pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard

from telephony.engine.codes import EndedReason, EventKind
from telephony.models import Call, CallbackDelivery, CallEvent

STATUSES = {
    Call.Status.QUEUED: "Queued",
    Call.Status.RINGING: "Ringing",
    Call.Status.IN_PROGRESS: "In progress",
}
# How a badge looks, by outcome.
_TONES = {"in-progress": "note", "completed": "good", "failed": "bad"}

# The states of callbacks, by ``CallbackDelivery.progress``.
DELIVERY_LABELS = {
    "failing": "Failing",
    "waiting": "Waiting",
    "given-up": "Given up",
    "delivered": "Delivered",
}
_DELIVERY_TONES = {"failing": "bad", "waiting": "note", "given-up": "bad", "delivered": "good"}

# What the database has may have been written by another version, and be none of these.
_REASONS = {reason.value: reason for reason in EndedReason}
_EVENTS = {kind.value: kind for kind in EventKind}
_DETAILS = {
    "onCallStartMs": "onCallStart took {}",
    "latencyMs": "{} after the caller spoke",
    "heardMs": "the caller heard {} of the response",
}
_SPOKEN = "for {}"
_TOOK = "after {}"
# What a detail begins with; the database keeps no order.
_FIRST = ("tool", "code", "reason", "ms", "onCallStartMs", "onCallStartStatus")

# Milliseconds after which a caller notices that something takes long, by kind of event or name.
_SLOW = {
    "onCallStartMs": 3_000,
    "latencyMs": 2_000,
    EventKind.MODEL_READY: 3_000,
    EventKind.GREETED: 3_000,
    EventKind.TOOL_RETURNED: 3_000,
    EventKind.TOOL_FAILED: 3_000,
    EventKind.TOOL_TIMEOUT: 3_000,
}


@dataclass(frozen=True, slots=True)
class Detail:
    """A detail of an event; ``is_slow`` marks a time that a caller notices."""

    text: str
    is_slow: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the timeline; ``offset`` is the time since the call began."""

    at: datetime
    offset: str
    text: str
    details: list[Detail]
    tone: str


def outcome_label(call: Call) -> str:
    """Return what the badge of a call says."""
    if call.ended_reason == EndedReason.REJECTED and call.error_code:
        return EndedReason.FAILED.label
    if call.ended_reason:
        return _reason_label(call.ended_reason)
    return STATUSES.get(Call.Status(call.status), "In progress")


def outcome_tone(call: Call) -> str:
    """Return how that badge looks."""
    return _TONES.get(call.outcome, "")


def code_tone(call: Call) -> str:
    """Return how an error code looks: a call can complete in spite of one."""
    return "bad" if call.outcome == "failed" else "amber"


def delivery_label(delivery: CallbackDelivery) -> str:
    """Return what the badge of a callback says."""
    return "On hold" if delivery.held_by_id else DELIVERY_LABELS[delivery.progress]


def delivery_tone(delivery: CallbackDelivery) -> str:
    """Return how that badge looks."""
    return _DELIVERY_TONES[delivery.progress]


def result_words(result: str) -> str:
    """Return the result of a request to a backend: an HTTP status, or ``timed out``."""
    return result.replace("_", " ")


def line_of(event: CallEvent, call: Call) -> Line:
    kind = _EVENTS.get(event.kind)
    first = [name for name in _FIRST if name in event.detail]
    names = [*first, *(name for name in event.detail if name not in first)]
    details = [_detail(event.kind, name, event.detail[name]) for name in names]
    return Line(
        at=event.at,
        offset=offset_of(event, call),
        text=kind.meaning if kind else _plain(event.kind),
        details=[detail for detail in details if detail.text],
        tone="bad" if kind and kind.is_trouble else "",
    )


def offset_of(event: CallEvent, call: Call) -> str:
    """Return when an event happened, since the call began."""
    return f"{max(0.0, (event.at - call.created_at).total_seconds()):.1f} s"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_slow(what: str, value: float) -> bool:
    """Return True if a caller notices this time, of the detail or kind of event ``what``."""
    return what in _SLOW and value > _SLOW[what]


def length(seconds: int) -> str:
    """Return a duration: ``47 s``, ``3 min 07 s``, ``2 h 05 min 00 s``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min {rest:02} s"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def milliseconds(count: float | None) -> str:
    """Return ``84 ms`` or ``1.5 s``; a dash for None."""
    if count is None:
        return "\N{EN DASH}"
    return f"{count / 1000:.1f} s" if count >= 1000 else f"{count:.0f} ms"


def _detail(kind: str, name: str, value: Any) -> Detail:
    what = kind if name == "ms" else name
    return Detail(_words(kind, name, value), _is_number(value) and is_slow(what, value))


def _words(kind: str, name: str, value: Any) -> str:
    if _is_number(value) and name in _DETAILS:
        return _DETAILS[name].format(milliseconds(value))
    if _is_number(value) and name == "ms":
        return (_SPOKEN if kind == EventKind.CALLER_SPOKE else _TOOK).format(milliseconds(value))
    match kind, name:
        case EventKind.ENDED, "reason":
            return _reason_label(str(value))
        case EventKind.GREETED, "cached":
            return "from the cache of greetings"
        case EventKind.RESPONSE_DONE, "status":
            return str(value)
        case _, ("tool" | "code" | "message" | "model" | "why" | "to" | "reason"):
            return str(value)
        case _, "onCallStartStatus":
            return f"with status {value}"
        case _, "by":
            return "" if value == "unknown" else f"by {value}"
    return f"{name}: {value}" if not isinstance(value, Mapping) else ""


def _reason_label(value: str) -> str:
    reason = _REASONS.get(value)
    return reason.label if reason else _plain(value)


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()
