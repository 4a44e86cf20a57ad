"""The tool calls that were sent to the customer's backend, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST_KEPT = 500  # tool runs of a call, for onCallEnd: the first ones
LONGEST_RESULT = 1_000  # of a run, as it is stored (characters)

Status = Literal["succeeded", "failed", "timed_out", "unknown"]


@dataclass(slots=True)
class ToolRun:
    """One tool call to the customer's backend, ``at`` on the session's clock.

    ``result`` is the beginning of what the model was told: the result, or why there is none. The
    status is ``unknown`` until the run ends, and remains so if its end is never reported.
    """

    name: str
    at: float
    status: Status = "unknown"
    ms: int | None = None
    result: str = ""
