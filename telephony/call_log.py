"""The names of calls in the log, and the line that each call leaves when it ends.

The account's own number is logged. The other party's is not, nor is anything that was said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from statistics import median_low
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

from core.api import as_number
from core.logs import log_scope
from telephony.engine.codes import EventKind
from telephony.models import Call
from usage.models import UsageRecord

log = structlog.get_logger(__name__)

_ASKED = (EventKind.ACCEPTED, EventKind.DECLINED, EventKind.NOT_ACCEPTED)
_READY = EventKind.MODEL_READY
_AUDIBLE = (EventKind.GREETED, EventKind.AGENT_SPOKE)
_COUNTED = (
    EventKind.INTERRUPTED,
    EventKind.TOOL_CALLED,
    EventKind.TOOL_FAILED,
    EventKind.TOOL_TIMEOUT,
)
# A call has at most 5,000 of them.
_TOLD = (*_ASKED, _READY, *_AUDIBLE, *_COUNTED)


def names_of(call: Call) -> dict[str, str]:
    """Return what each log line about a call has."""
    return {"call_id": call.id} | ({"call_sid": call.call_sid} if call.call_sid else {})


def about(call: Call) -> AbstractContextManager[None]:
    """Name the call in the log lines of a block."""
    return log_scope(**names_of(call))


def bind_call(call: Call) -> None:
    """Name the call in all later log lines of this request, job or task."""
    bind_contextvars(**names_of(call))


def log_end(call: Call, record: UsageRecord | None) -> None:
    """Write the line of a call whose end is committed.

    :param record: the usage of a call that was accepted.
    """
    number, _ = call.numbers
    with about(call):
        log.info(
            "call_ended",
            account_id=call.account_id,
            number=number,
            direction=call.direction,
            is_test=call.is_test,
            status=call.status,
            outcome=call.outcome,
            reason=call.ended_reason,
            code=call.error_code or None,
            engine_id=call.engine_id or None,
            duration_s=call.duration_seconds,
            billed_minutes=record.minutes if record else 0,
            platform_cost=as_number(record.platform_cost) if record else 0,
            twilio_cost=as_number(record.twilio_cost) if record else 0,
            openai_cost=as_number(record.openai_cost) if record else 0,
            **_figures_of(call),
        )


def log_rejection(*, why: str, call_sid: str, number: str) -> None:
    """Write the line of a call that was rejected and leaves no record."""
    log.info("call_rejected", why=why, call_sid=call_sid, number=number)


def _figures_of(call: Call) -> dict[str, Any]:
    """Return the figures of the timeline, or none if it cannot be read: the line matters more."""
    try:
        events = call.events.filter(kind__in=_TOLD).order_by("at", "id")
        return figures_of(events.values("kind", "at", "detail"), call.answered_at)
    except Exception as error:
        log.warning("call_figures_unknown", error=type(error).__name__)
        return {}


def figures_of(
    events: Iterable[Mapping[str, Any]], connected_at: datetime | None
) -> dict[str, Any]:
    """Return the latencies, in milliseconds, and the counts that a timeline tells of.

    :param events: ``kind``, ``at`` and ``detail`` of each event, in order.
    """
    events = list(events)
    count = Counter(event["kind"] for event in events)
    asked = _numbers(events, _ASKED, "onCallStartMs")
    turns = _numbers(events, [EventKind.AGENT_SPOKE], "latencyMs")
    audible = [event["at"] for event in events if event["kind"] in _AUDIBLE]
    models = [event["detail"].get("model") for event in events if event["kind"] == _READY]
    return {
        "model": models[-1] if models else None,
        "on_call_start_ms": asked[-1] if asked else None,
        "first_audio_ms": _ms(connected_at, audible[0]) if audible and connected_at else None,
        "turns": len(turns),
        "turn_ms_median": median_low(turns) if turns else None,
        "turn_ms_max": max(turns, default=None),
        "interruptions": count[EventKind.INTERRUPTED],
        "tools": count[EventKind.TOOL_CALLED],
        "tools_failed": count[EventKind.TOOL_FAILED] + count[EventKind.TOOL_TIMEOUT],
    }


def _numbers(
    events: Iterable[Mapping[str, Any]], kinds: Iterable[EventKind], name: str
) -> list[int]:
    """Return the values of a detail; another version may have written something else."""
    values = (event["detail"].get(name) for event in events if event["kind"] in kinds)
    return [value for value in values if isinstance(value, int)]


def _ms(since: datetime, until: datetime) -> int:
    return round((until - since).total_seconds() * 1000)
