"""A conversation as a value: another engine can take it up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal, TypeVar

from telephony.engine.after_stream import Dial
from telephony.engine.codes import EndedReason
from telephony.engine.costs import TokenUsage
from telephony.engine.plan import CallPlan, plan_as_dict, plan_from_dict
from telephony.engine.told_calls import ToldCall
from telephony.engine.tool_runs import ToolRun
from telephony.engine.transcript import Line

# Raised by a release whose snapshots the one before cannot take up.
VERSION = 1

MoveReason = Literal["engine_stopping", "engine_lost", "stream_broken"]
Leave = tuple[EndedReason, Dial | None]

K = TypeVar("K", Line, ToolRun, ToldCall)
# A long call has thousands of lines, and a snapshot with each turn: asdict() and replace() of
# dataclasses would take several times as long.
_NAMES: dict[type, tuple[str, ...]] = {
    kind: tuple(each.name for each in fields(kind)) for kind in (Line, ToolRun, ToldCall)
}
_VALUES = {kind: attrgetter(*names) for kind, names in _NAMES.items()}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A conversation that has not ended. ``repr`` omits what was said and done.

    Times are in seconds since the snapshot was taken, so those of the past are negative. ``left_s``
    is what is left of the call's maximum duration. ``calls`` is what the model knows of its tool
    calls; one without a result was still running. ``owes`` is True if it is the model's turn to
    speak. ``leave`` is how the call ends, if the agent has said goodbye; ``digits`` a sequence of
    keys that is not complete; ``notes`` the number of timeline events by kind; ``stream_breaks``
    when the media stream broke. ``silence_left_s`` is how much longer silence may last; None if
    nobody is silent. ``loses_words`` is True if the caller said something that is in no line.
    """

    plan: CallPlan
    reason: MoveReason
    left_s: float
    lines: tuple[Line, ...] = field(default=(), repr=False)
    tool_runs: tuple[ToolRun, ...] = field(default=(), repr=False)
    calls: tuple[ToldCall, ...] = field(default=(), repr=False)
    usage: TokenUsage = field(default_factory=TokenUsage)
    billed_from: float | None = None
    has_responded: bool = False
    is_greeted: bool = False
    owes: bool = False
    leave: Leave | None = None
    digits: str = field(default="", repr=False)
    notes: Mapping[str, int] = field(default_factory=dict)
    stream_breaks: tuple[float, ...] = ()
    silence_left_s: float | None = None
    loses_words: bool = False

    @classmethod
    def at_start(cls, plan: CallPlan) -> Snapshot:
        """Return the conversation of a call that is about to begin."""
        return cls(plan, "engine_lost", left_s=plan.max_duration_seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as JSON types, credentials included, for sealing."""
        simple = {each.name: getattr(self, each.name) for each in fields(self)}
        return simple | {
            "version": VERSION,
            "plan": plan_as_dict(self.plan),
            "lines": _as_dicts(Line, self.lines),
            "tool_runs": _as_dicts(ToolRun, self.tool_runs),
            "calls": _as_dicts(ToldCall, self.calls),
            "usage": asdict(self.usage),
            "leave": self.leave and _leave_as_json(*self.leave),
            "notes": dict(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot from the output of :meth:`to_dict`, of this release or another.

        Ignores unknown fields, and gives missing ones their default. Raises :class:`ValueError` for
        a version that this release cannot take up, and :class:`TypeError` if a required field is
        missing.
        """
        if data.get("version", VERSION) > VERSION:
            raise ValueError(f"a snapshot of version {data['version']}")
        return cls(
            **_known(cls, data)
            | {
                "plan": plan_from_dict(data.get("plan", {})),
                "lines": _all(Line, data, "lines"),
                "tool_runs": _all(ToolRun, data, "tool_runs"),
                "calls": _all(ToldCall, data, "calls"),
                "usage": TokenUsage(**_known(TokenUsage, data.get("usage", {}))),
                "leave": _leave(data.get("leave")),
                "stream_breaks": tuple(data.get("stream_breaks", ())),
            }
        )


def _as_dicts(kind: type[K], entries: Iterable[K]) -> list[dict[str, Any]]:
    names, values = _NAMES[kind], _VALUES[kind]
    return [dict(zip(names, values(entry), strict=True)) for entry in entries]


def _leave_as_json(reason: EndedReason, dial: Dial | None) -> dict[str, str]:
    return {"reason": str(reason), "dial": dial.to if dial else ""}


def _leave(kept: Mapping[str, str] | None) -> Leave | None:
    if not kept:
        return None
    reasons = {str(reason): reason for reason in EndedReason}
    reason = reasons.get(kept["reason"], EndedReason.AGENT_HANGUP)
    return reason, Dial(kept["dial"]) if kept.get("dial") else None


def _all(kind: type[K], data: Mapping[str, Any], name: str) -> tuple[K, ...]:
    return tuple(kind(**_known(kind, entry)) for entry in data.get(name, ()))


def _known(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: data[each.name] for each in fields(kind) if each.name in data}


def moved(entries: Iterable[K], by: float) -> tuple[K, ...]:
    """Return copies of the entries whose times are on another clock."""
    return tuple(_moved(entry, by) for entry in entries)


def _moved(entry: K, by: float) -> K:
    kind = type(entry)
    copy = kind(*_VALUES[kind](entry))
    copy.at += by
    return copy
