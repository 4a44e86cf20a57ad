"""Scheduled actions, on a clock that is set from outside."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], None]


class Timeline:
    """Runs actions in the order of their time, however the time advances.

    Advancing to infinity runs everything at once, in the same order as on a real clock: time jumps
    from one action to the next.
    """

    def __init__(self) -> None:
        self.now_ms = 0.0
        self._due: list[tuple[float, int, Action]] = []
        self._count = itertools.count()

    @property
    def next_ms(self) -> float | None:
        return self._due[0][0] if self._due else None

    def after(self, ms: float, action: Action) -> None:
        heapq.heappush(self._due, (self.now_ms + ms, next(self._count), action))

    def advance(self, now_ms: float) -> None:
        while self._due and self._due[0][0] <= now_ms:
            self.now_ms, _, action = heapq.heappop(self._due)
            action()
        if now_ms > self.now_ms and now_ms != float("inf"):
            self.now_ms = now_ms

    def clear(self) -> None:
        self._due.clear()
