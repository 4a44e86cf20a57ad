"""When the calls of a draining engine leave it: spread over time, so that it never moves them all
at once.

Each move is a webhook, a socket to us, a socket to the model, and two transactions. The calls of a
whole engine together would delay one another, and new calls with them.
"""

from __future__ import annotations

import math
from collections.abc import Collection

# How long a call waits for a turn boundary before it leaves without one. It differs from call to
# call, evenly from the shortest to the longest. Running tools and goodbyes are waited for in any
# case.
SHORTEST_S = 8.0
LONGEST_S = 20.0
# All calls that are at a turn boundary leave within this time.
AT_REST_WITHIN_S = 8.0


class Departures:
    """The schedule of one drain.

    :param every_s: how often it is looked at.
    """

    def __init__(self, every_s: float) -> None:
        self._share = every_s / AT_REST_WITHIN_S
        self._late_at: dict[str, float] = {}
        self._at_once = 1

    def expect(self, call_ids: Collection[str], now: float) -> None:
        """Give each call that is not known yet its longest wait, in the order of the calls."""
        added = [call_id for call_id in call_ids if call_id not in self._late_at]
        for place, call_id in enumerate(added, 1):
            wait = SHORTEST_S + (LONGEST_S - SHORTEST_S) * place / len(added)
            self._late_at[call_id] = now + wait
        self._at_once = max(self._at_once, math.ceil(len(added) * self._share))

    def is_late(self, call_id: str, now: float) -> bool:
        """Return True if the call no longer waits for a turn boundary."""
        return now >= self._late_at[call_id]

    def next(self, ready: list[str]) -> list[str]:
        """Return which of the calls that may leave now do so, in their order."""
        return ready[: self._at_once]
