"""The outcome of a conversation: as its engine knows it, and as it is stored during the call.

A call outlasts a deploy, so another version may have written the stored outcome. It is read as far
as possible: a call ends, and is charged, whatever is left of this.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
import structlog

from core.sealing import CannotUnseal, seal, unseal
from telephony.engine.costs import TokenUsage, openai_cost
from telephony.models import CallProgress

log = structlog.get_logger(__name__)

# The most that a usage record can store, in USD.
_MOST_COST = Decimal(1_000_000)

_TEXTS = ("role", "text", "timestamp")
_KINDS: dict[str, type[int | float]] = {
    each.name: type(getattr(TokenUsage(), each.name)) for each in fields(TokenUsage)
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A conversation's outcome. ``transcript`` and ``tool_calls`` have the format of onCallEnd.

    ``missing`` names what could not be read: ``transcript``, ``cost``. ``billed_from`` is
    stored beside the sealed rest, as ``Call.billed_from``: a call whose seal is lost is charged.
    ``conversation`` is stored beside it too: sealed for another engine, or empty.
    """

    model: str = ""
    transcript: list[dict[str, Any]] = field(default_factory=list)
    usage: TokenUsage = field(default_factory=TokenUsage)
    missing: frozenset[str] = frozenset()
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    billed_from: datetime | None = None
    conversation: bytes = field(default=b"", repr=False)


def sealed(outcome: Outcome) -> bytes:
    """Return the outcome of a call in progress, sealed for storage."""
    kept = {
        "model": outcome.model,
        "transcript": outcome.transcript,
        # Without zeros: a release does not read the counts of a model that it does not know.
        "usage": {name: count for name, count in asdict(outcome.usage).items() if count},
        "tool_calls": outcome.tool_calls,
    }
    return seal(orjson.dumps(kept), purpose=CallProgress.PURPOSE)


def opened(kept: CallProgress) -> Outcome:
    """Return the outcome that :func:`sealed` was given, as far as it can be read."""
    try:
        return _read(json.loads(unseal(kept.sealed, purpose=CallProgress.PURPOSE)))
    except (CannotUnseal, ValueError, RecursionError) as error:  # e.g. its key was removed
        log.error("call_progress_lost", error=type(error).__name__)
        return Outcome(missing=frozenset({"transcript", "cost"}))


def cost_of(outcome: Outcome) -> Decimal | None:
    """Return OpenAI's price for it, in USD; None if that is unknown."""
    usage, is_whole = _usage(asdict(outcome.usage))
    try:
        cost = openai_cost(outcome.model, usage)
    except (ArithmeticError, TypeError, ValueError) as error:
        log.error("call_cost_unknown", error=type(error).__name__)
        return None
    return cost if is_whole and cost < _MOST_COST else None


def _read(data: Any) -> Outcome:
    if not isinstance(data, Mapping):
        raise ValueError("Not an object.")
    transcript, has_all_lines = _transcript(data.get("transcript"))
    usage, has_all_usage = _usage(data.get("usage"))
    model = data.get("model")
    missing = set() if has_all_lines else {"transcript"}
    if not has_all_usage or not isinstance(model, str):
        missing.add("cost")
    return Outcome(
        model if isinstance(model, str) else "",
        transcript,
        usage,
        missing=frozenset(missing),
        tool_calls=_tool_calls(data.get("tool_calls")),
    )


def _tool_calls(data: Any) -> list[dict[str, Any]]:
    """Return the readable tool calls. Older versions stored none."""
    entries = data if isinstance(data, list) else []
    return [dict(entry) for entry in entries if _is_tool_call(entry)]


def _is_tool_call(entry: Any) -> bool:
    if not isinstance(entry, Mapping):
        return False
    texts = (entry.get(name) for name in ("toolName", "status", "result", "timestamp"))
    return all(isinstance(text, str) for text in texts)


def _transcript(data: Any) -> tuple[list[dict[str, Any]], bool]:
    """Return the readable lines, and whether those are all."""
    if not isinstance(data, list):
        return [], False
    lines = [_line(entry) for entry in data]
    readable = [line for line in lines if line is not None]
    return readable, len(readable) == len(lines)


def _line(data: Any) -> dict[str, Any] | None:
    """Return a line if it has a speaker and a text."""
    if not isinstance(data, Mapping):
        return None
    line = {name: data[name] for name in _TEXTS if isinstance(data.get(name), str)}
    if not {"role", "text"} <= line.keys():
        return None
    return line | {"interrupted": True} if data.get("interrupted") is True else line


def _usage(data: Any) -> tuple[TokenUsage, bool]:
    """Return the readable counts, and whether those are all that were written."""
    if not isinstance(data, Mapping):
        return TokenUsage(), False
    counts: dict[str, Any] = {
        name: _KINDS[name](count)
        for name, count in data.items()
        if name in _KINDS and _is_count(count)
    }
    return TokenUsage(**counts), len(counts) == len(data)


def _is_count(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0
