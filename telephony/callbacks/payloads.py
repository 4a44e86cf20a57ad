"""The bodies of callbacks. The names and order of their fields are a contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from core.api import iso
from telephony.engine.bounds import DEEPEST, is_deeper_than
from telephony.engine.models import Retirement

_TOO_DEEP = f"Nest lists and objects at most {DEEPEST} deep."
# In UTF-8, without spaces. Every callback of the call includes the metadata.
MOST_METADATA_BYTES = 16 * 1024
METADATA_LIMITS = (
    f"At most {MOST_METADATA_BYTES // 1024} KB, nested at most {DEEPEST} deep, without the "
    "character NUL."
)

if TYPE_CHECKING:
    from telephony.models import Call


@dataclass(frozen=True, slots=True)
class CallFacts:
    """The facts about a call that its callbacks include."""

    call_sid: str
    caller_phone: str
    called_number: str
    direction: str
    metadata: Any = None
    answered_by: str = ""

    @classmethod
    def of(cls, call: Call) -> CallFacts:
        return cls(
            call_sid=call.call_sid or "",
            caller_phone=call.caller_phone,
            called_number=call.called_number,
            direction=call.direction,
            metadata=call.metadata,
            answered_by=call.answered_by,
        )


def call_start(facts: CallFacts, now: datetime) -> dict[str, Any]:
    """Return onCallStart, with ``metadata`` and ``answeredBy`` only if the call has them."""
    body = {
        "callSid": facts.call_sid,
        **_parties(facts),
        "direction": facts.direction,
        "timestamp": iso(now),
    }
    if facts.metadata is not None:
        body["metadata"] = facts.metadata
    if facts.answered_by:
        body["answeredBy"] = facts.answered_by
    return body


def tool_call(
    facts: CallFacts, name: str, arguments: dict[str, Any], now: datetime
) -> dict[str, Any]:
    return {
        "callSid": facts.call_sid,
        "toolName": name,
        "arguments": arguments,
        "metadata": facts.metadata,
        "timestamp": iso(now),
    }


def call_end(
    facts: CallFacts,
    *,
    duration_seconds: int,
    ended_reason: str,
    transcript: list[dict[str, Any]],
    tool_calls: list[dict[str, Any]],
    cost_breakdown: dict[str, Any],
    latency: dict[str, int | None],
    now: datetime,
    model: str = "",
    warnings: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return onCallEnd.

    A line of the transcript is ``{role, text, timestamp, interrupted?}``, a tool call
    ``{toolName, status, result, durationMs, timestamp}``, and a warning ``{code, message, …}``. The
    body has ``toolCalls``, ``model`` and ``warnings`` only if there are any.
    """
    body = {
        "callSid": facts.call_sid,
        **_parties(facts),
        "direction": facts.direction,
        "durationSeconds": duration_seconds,
        "endedReason": ended_reason,
        "transcript": transcript,
        "costBreakdown": cost_breakdown,
        "latency": latency,
        "metadata": facts.metadata,
        "timestamp": iso(now),
    }
    optional = {"toolCalls": tool_calls, "model": model, "warnings": list(warnings)}
    return body | {name: value for name, value in optional.items() if value}


def model_retires(retirement: Retirement) -> dict[str, Any]:
    """Return the warning that OpenAI turns off the model of a call."""
    return {
        "code": "model_retires",
        "message": str(retirement),
        "model": retirement.model,
        "retiresOn": retirement.ends.isoformat(),
    }


def error(facts: CallFacts, *, code: str, message: str, now: datetime) -> dict[str, Any]:
    return {
        "callSid": facts.call_sid,
        "code": code,
        "message": message,
        **_parties(facts),
        "metadata": facts.metadata,
        "timestamp": iso(now),
    }


def encode(body: dict[str, Any]) -> bytes:
    """Return the JSON to sign and send."""
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def metadata_problem(metadata: Any) -> str | None:
    """Return a sentence that says why metadata cannot be stored and returned, or None.

    PostgreSQL refuses NUL in JSON, and deep nesting exhausts the encoders.
    """
    if problem := json_problem(metadata, most=MOST_METADATA_BYTES):
        return problem
    has_nul = b"\\u0000" in orjson.dumps(metadata).replace(rb"\\", b"")
    return "Leave NUL characters out." if has_nul else None


def json_problem(value: Any, *, most: int) -> str | None:
    """Return a sentence if decoded JSON has more than ``most`` bytes or is nested too deeply."""
    try:
        if len(orjson.dumps(value)) > most:
            return f"Use at most {most // 1024} KB of JSON."
    except orjson.JSONEncodeError as error:
        if "ecursion" not in str(error):
            return "Use valid JSON, with integers of at most 64 bits."
        return _TOO_DEEP
    return _TOO_DEEP if is_deeper_than(value) else None


def _parties(facts: CallFacts) -> dict[str, Any]:
    """Return the caller under two names, since backends of the original service use either."""
    return {
        "callerPhone": facts.caller_phone,
        "callerNumber": facts.caller_phone,
        "calledNumber": facts.called_number,
    }
