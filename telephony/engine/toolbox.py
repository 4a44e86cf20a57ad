"""Tool calls of the model, to the customer's tools and to built-in ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from telephony.engine.actions import CancelTool, RunTool
from telephony.engine.bounds import DEEPEST, LONGEST_NAME, clipped, is_deeper_than
from telephony.engine.codes import EventKind
from telephony.engine.context import CallContext
from telephony.engine.events import FunctionCall
from telephony.engine.plan import CallPlan
from telephony.engine.recent_ids import RecentIds
from telephony.engine.timers import ToolTimer
from telephony.engine.told_calls import ToldCall, ToldCalls
from telephony.engine.tool_runs import LONGEST_RESULT, MOST_KEPT, Status, ToolRun

TOOL_S = 30.0  # for the customer's backend to respond to a tool call
MOST_RUNNING = 64  # in one response, and at the same time
NOT_KNOWN = json.dumps(
    {"error": "The connection broke before the result came. The tool may have done its work."}
)
LONGEST_ARGUMENTS = 32_768  # characters; the model writes at most 4,096 tokens


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A call of a built-in tool, with valid arguments."""

    call_id: str
    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class Taken:
    """The tool calls of one response; those in ``batch`` were sent to the backend."""

    batch: set[str] = field(default_factory=set)
    builtin: list[BuiltIn] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  # call id, why, for the model


class Toolbox:
    """Runs tools in batches: each call gets a result, and the whole batch one response."""

    def __init__(self, context: CallContext, plan: CallPlan) -> None:
        self._context = context
        self._builtin = frozenset(plan.builtin_tools)
        self._names = self._builtin | {tool.name for tool in plan.tools}
        self._seen = RecentIds()
        self._waiting: dict[str, tuple[ToolRun, set[str]]] = {}  # call id → the run, its batch
        self._kept: list[ToolRun] = []
        self.told = ToldCalls()

    def __len__(self) -> int:
        """Return the number of running tools."""
        return len(self._waiting)

    def kept(self) -> tuple[ToolRun, ...]:
        return tuple(self._kept)

    def follow(self, runs: Iterable[ToolRun], calls: Iterable[ToldCall]) -> None:
        """Continue a call with these tool calls; none of them runs again: what it did is real."""
        self._kept = list(runs)
        for call in calls:
            self._seen.add(call.call_id)
            self.told.keep(replace(call, result=NOT_KNOWN) if call.result is None else call)

    def take(self, calls: Sequence[FunctionCall]) -> Taken:
        """Send the backend the calls of its tools; return what the session must answer itself."""
        taken = Taken()
        self.drop(calls[MOST_RUNNING:])
        for call in calls[:MOST_RUNNING]:
            if self._seen.add(call.call_id):
                self._take(call, taken)
            else:
                self._context.note(EventKind.REPEATED, what="a tool call")
        return taken

    def drop(self, calls: Sequence[FunctionCall]) -> None:
        """Note in the timeline that these calls do not run."""
        if calls:
            self._context.note(EventKind.TOOLS_DROPPED, count=len(calls))

    def _take(self, call: FunctionCall, taken: Taken) -> None:
        self.told.made(call, self._context.now)
        try:
            arguments = self._arguments_of(call)
        except ValueError as error:
            taken.refused.append((call.call_id, str(error)))
            return
        self._context.note(EventKind.TOOL_CALLED, tool=call.name)
        if call.name in self._builtin:
            taken.builtin.append(BuiltIn(call.call_id, call.name, arguments))
        else:
            self._begin(call.call_id, call.name, taken.batch)
            self._context.do(RunTool(call.call_id, call.name, arguments))

    def _arguments_of(self, call: FunctionCall) -> dict[str, Any]:
        """Return the arguments; raise ValueError with a sentence for the model if it cannot run."""
        if call.name not in self._names:
            name = clipped(call.name, LONGEST_NAME)
            raise ValueError(f"There is no tool named {name}." if name else "Name a tool.")
        if len(self._waiting) >= MOST_RUNNING:
            raise ValueError("Too many tools are running: wait for their results first.")
        return arguments_of(call.arguments)

    def _begin(self, call_id: str, name: str, batch: set[str]) -> None:
        run = ToolRun(name, self._context.now)
        batch.add(call_id)
        self._waiting[call_id] = (run, batch)
        self._context.start_timer(ToolTimer(call_id), TOOL_S)
        if len(self._kept) < MOST_KEPT:
            self._kept.append(run)

    # Each of these returns True if it was the last of its batch, and None if it was not pending.

    def returned(self, call_id: str, result: str) -> bool | None:
        return self._end(call_id, "succeeded", result, EventKind.TOOL_RETURNED)

    def failed(self, call_id: str, why: str) -> bool | None:
        return self._end(call_id, "failed", why, EventKind.TOOL_FAILED, message=why)

    def timed_out(self, call_id: str, why: str) -> bool | None:
        self._context.do(CancelTool(call_id))
        return self._end(call_id, "timed_out", why, EventKind.TOOL_TIMEOUT)

    def _end(
        self, call_id: str, status: Status, result: str, kind: EventKind, **detail: str
    ) -> bool | None:
        if call_id not in self._waiting:
            return None
        run, batch = self._waiting.pop(call_id)
        batch.discard(call_id)
        run.status, run.result = status, clipped(result, LONGEST_RESULT)
        run.ms = self._context.ms_since(run.at)
        self._context.timers.clear(ToolTimer(call_id))
        self._context.note(kind, tool=run.name, ms=run.ms, **detail)
        return not batch


def arguments_of(text: str | None) -> dict[str, Any]:
    """Return the arguments of a tool call, or raise ValueError with a sentence for the model."""
    if text is None:
        raise ValueError("The arguments are not JSON text.")
    if len(text) > LONGEST_ARGUMENTS:
        raise ValueError(f"The arguments have more than {LONGEST_ARGUMENTS:,} characters.")
    try:
        arguments = json.loads(text or "{}", parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError("The arguments are not a JSON object.")
    if is_deeper_than(arguments):
        raise ValueError(f"The arguments are nested more than {DEEPEST} deep.")
    return arguments


def _finite(text: str) -> float:
    """Return a number that JSON can represent."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def as_text(output: Any) -> str:
    """Return a tool's result for the model: a text as it is, anything else as JSON."""
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
