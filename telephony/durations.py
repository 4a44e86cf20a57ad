"""How long something took, as the timeline and the history of callbacks have it."""

from __future__ import annotations

from time import monotonic


def ms_since(began: float) -> int:
    """Return how long ago a moment of the monotonic clock was."""
    return round((monotonic() - began) * 1000)
