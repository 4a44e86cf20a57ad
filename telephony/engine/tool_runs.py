"""The customer's tools: which the model waits for, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from telephony.engine.bounds import clipped
from telephony.engine.seen import Seen

MOST_RUNNING = 64  # in one response and under way
MOST_KEPT = 500  # of a call's tool runs, for onCallEnd: the first ones
LONGEST_RESULT = 1_000  # of what a run came to, as it is kept (characters)

Status = Literal["succeeded", "failed", "timed_out", "unknown"]


@dataclass(slots=True)
class ToolRun:
    """One question to the customer's backend, ``at`` on the session's clock.

    ``result`` is the beginning of what the model was told: the result, or why there is none. A run
    is ``unknown`` until its end, and stays so when nobody has learned of it.
    """

    name: str
    at: float
    status: Status = "unknown"
    ms: int | None = None
    result: str = ""


class ToolRuns:
    """Tools run in batches: those of one response are answered one by one, and spoken of once."""

    def __init__(self) -> None:
        self._seen = Seen()
        self._waiting: dict[str, tuple[ToolRun, set[str]]] = {}  # call id → the run, its batch
        self._kept: list[ToolRun] = []

    def __len__(self) -> int:
        """How many are running."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MOST_RUNNING

    def is_new(self, call_id: str) -> bool:
        """Whether the call comes for the first time; it is remembered."""
        return self._seen.add(call_id)

    def begin(self, call_id: str, name: str, batch: set[str], now: float) -> None:
        """A tool is asked for; its id joins the batch."""
        run = ToolRun(name, now)
        batch.add(call_id)
        self._waiting[call_id] = (run, batch)
        if len(self._kept) < MOST_KEPT:
            self._kept.append(run)

    def end(
        self, call_id: str, status: Status, result: str, now: float
    ) -> tuple[ToolRun, bool] | None:
        """A tool's answer is here, or is waited for no longer; None if it was not waited for.

        With the run goes whether it is the last one of its batch.
        """
        if call_id not in self._waiting:
            return None
        run, batch = self._waiting.pop(call_id)
        batch.discard(call_id)
        run.status, run.result = status, clipped(result, LONGEST_RESULT)
        run.ms = round((now - run.at) * 1000)
        return run, not batch

    def kept(self) -> tuple[ToolRun, ...]:
        return tuple(self._kept)
