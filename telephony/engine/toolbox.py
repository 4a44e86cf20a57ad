"""The customer's tools, and ours: what the model calls, and which of them it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from telephony.engine.actions import CancelTool, RunTool
from telephony.engine.bounds import clipped
from telephony.engine.codes import EventKind
from telephony.engine.desk import Desk
from telephony.engine.events import FunctionCall
from telephony.engine.model_reader import LONGEST_NAME, arguments_of
from telephony.engine.plan import CallPlan
from telephony.engine.seen import Seen
from telephony.engine.timers import ToolTimer
from telephony.engine.tool_runs import LONGEST_RESULT, MOST_KEPT, Status, ToolRun

TOOL_S = 30.0  # for the customer's backend to answer a tool call
MOST_RUNNING = 64  # in one response and under way


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A call of a tool that is ours, with arguments that can be read."""

    call_id: str
    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class Taken:
    """What became of the calls of a response: the backend was asked for those in ``batch``."""

    batch: set[str] = field(default_factory=set)
    builtin: list[BuiltIn] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  # call id, why, for the model


class Toolbox:
    """Tools run in batches: those of one response are answered one by one, and spoken of once."""

    def __init__(self, desk: Desk, plan: CallPlan) -> None:
        self._desk = desk
        self._builtin = frozenset(plan.builtin_tools)
        self._names = self._builtin | {tool.name for tool in plan.tools}
        self._seen = Seen()
        self._waiting: dict[str, tuple[ToolRun, set[str]]] = {}  # call id → the run, its batch
        self._kept: list[ToolRun] = []

    def __len__(self) -> int:
        """How many are running."""
        return len(self._waiting)

    def kept(self) -> tuple[ToolRun, ...]:
        return tuple(self._kept)

    def take(self, calls: Sequence[FunctionCall]) -> Taken:
        """Ask the backend for what it is to run, and tell what can be answered at once."""
        taken = Taken()
        self.drop(calls[MOST_RUNNING:])
        for call in calls[:MOST_RUNNING]:
            if self._seen.add(call.call_id):
                self._take(call, taken)
            else:
                self._desk.note(EventKind.REPEATED, what="a tool call")
        return taken

    def drop(self, calls: Sequence[FunctionCall]) -> None:
        """Note that these do not run."""
        if calls:
            self._desk.note(EventKind.TOOLS_DROPPED, count=len(calls))

    def _take(self, call: FunctionCall, taken: Taken) -> None:
        try:
            arguments = self._arguments_of(call)
        except ValueError as error:
            taken.refused.append((call.call_id, str(error)))
            return
        self._desk.note(EventKind.TOOL_CALLED, tool=call.name)
        if call.name in self._builtin:
            taken.builtin.append(BuiltIn(call.call_id, call.name, arguments))
        else:
            self._begin(call.call_id, call.name, taken.batch)
            self._desk.do(RunTool(call.call_id, call.name, arguments))

    def _arguments_of(self, call: FunctionCall) -> dict[str, Any]:
        """Return what a tool is called with; raise ValueError, for the model, if it cannot run."""
        if call.name not in self._names:
            name = clipped(call.name, LONGEST_NAME)
            raise ValueError(f"There is no tool named {name}." if name else "Name a tool.")
        if len(self._waiting) >= MOST_RUNNING:
            raise ValueError("Too many tools are running: wait for their results first.")
        return arguments_of(call.arguments)

    def _begin(self, call_id: str, name: str, batch: set[str]) -> None:
        run = ToolRun(name, self._desk.now)
        batch.add(call_id)
        self._waiting[call_id] = (run, batch)
        self._desk.alarm(ToolTimer(call_id), TOOL_S)
        if len(self._kept) < MOST_KEPT:
            self._kept.append(run)

    # Each of these returns whether it was the last of its batch; None if it was not waited for.

    def returned(self, call_id: str, result: str) -> bool | None:
        return self._end(call_id, "succeeded", result, EventKind.TOOL_RETURNED)

    def failed(self, call_id: str, why: str) -> bool | None:
        return self._end(call_id, "failed", why, EventKind.TOOL_FAILED, message=why)

    def timed_out(self, call_id: str, why: str) -> bool | None:
        self._desk.do(CancelTool(call_id))
        return self._end(call_id, "timed_out", why, EventKind.TOOL_TIMEOUT)

    def _end(
        self, call_id: str, status: Status, result: str, kind: EventKind, **detail: str
    ) -> bool | None:
        if call_id not in self._waiting:
            return None
        run, batch = self._waiting.pop(call_id)
        batch.discard(call_id)
        run.status, run.result = status, clipped(result, LONGEST_RESULT)
        run.ms = self._desk.ms_since(run.at)
        self._desk.timers.clear(ToolTimer(call_id))
        self._desk.note(kind, tool=run.name, ms=run.ms, **detail)
        return not batch
