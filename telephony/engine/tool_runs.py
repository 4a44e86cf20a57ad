"""What came of each question to the customer's backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
