"""The names of calls in the log, and the line that each call leaves when it ends.

The account's own number is logged. The other party's is not, nor is anything that was said.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

from core.api import as_number
from core.logs import log_scope
from telephony.call_figures import Figures
from telephony.engine.codes import EventKind
from telephony.models import Call
from usage.models import UsageRecord

log = structlog.get_logger(__name__)


def names_of(call: Call) -> dict[str, str]:
    """Return what each log line about a call has."""
    return {"call_id": call.id} | ({"call_sid": call.call_sid} if call.call_sid else {})


def about(call: Call) -> AbstractContextManager[None]:
    """Name the call in the log lines of a block."""
    return log_scope(**names_of(call))


def bind_call(call: Call) -> None:
    """Name the call in all later log lines of this request, job or task."""
    bind_contextvars(**names_of(call))


def log_end(call: Call, figures: Figures, record: UsageRecord | None) -> None:
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
            **_shown(figures),
        )


def log_rejection(*, why: str, call_sid: str, number: str) -> None:
    """Write the line of a call that was rejected and leaves no record."""
    log.info("call_rejected", why=why, call_sid=call_sid, number=number)


def _shown(figures: Figures) -> dict[str, Any]:
    """Return the latencies, in milliseconds, and the counts that the line has."""
    count, asked = figures.counts, figures.on_call_start
    return {
        "model": figures.model,
        "on_call_start_ms": asked[-1] if asked else None,
        "first_audio_ms": figures.first_audio,
        "turns": len(figures.turns),
        "turn_ms_median": figures.turn(0.5),
        "turn_ms_max": max(figures.turns, default=None),
        "interruptions": count[EventKind.INTERRUPTED],
        "tools": count[EventKind.TOOL_CALLED],
        "tools_failed": count[EventKind.TOOL_FAILED] + count[EventKind.TOOL_TIMEOUT],
    }
