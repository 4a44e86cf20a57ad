"""Recent ids, so that an event that arrives twice is processed once."""

from __future__ import annotations

# Four hours with a response every two seconds have fewer. Ids that are dropped are old.
MOST = 10_000


class RecentIds:
    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._ids: dict[str, None] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._ids

    def add(self, id: str) -> bool:
        """Add an id; return False if it is already known."""
        if id in self._ids:
            return False
        if len(self._ids) >= self._most:
            del self._ids[next(iter(self._ids))]
        self._ids[id] = None
        return True
