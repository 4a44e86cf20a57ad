"""Ids that were seen, so that what comes twice is done once."""

from __future__ import annotations

# A call of four hours has fewer responses, and fewer tool calls. What is forgotten is long past.
MOST = 10_000


class Seen:
    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._ids: dict[str, None] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._ids

    def add(self, id: str) -> bool:
        """Remember an id; False if it was there."""
        if id in self._ids:
            return False
        if len(self._ids) >= self._most:
            del self._ids[next(iter(self._ids))]
        self._ids[id] = None
        return True
