"""Counts how often a connection of a call breaks: a call goes on after each, but not for ever."""

from __future__ import annotations

# Another break within a minute ends the call.
MOST_BREAKS = 2
BREAKS_S = 60.0


class Breaks:
    """The breaks of one connection. ``at`` has the times of those that still count."""

    def __init__(self) -> None:
        self.at: tuple[float, ...] = ()

    def add(self, now: float) -> bool:
        """Count a break; return False if there were too many before."""
        self.at = tuple(at for at in self.at if now - at < BREAKS_S)
        if len(self.at) >= MOST_BREAKS:
            return False
        self.at += (now,)
        return True
