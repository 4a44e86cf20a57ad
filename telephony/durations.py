"""Durations, as the timeline and the history of callbacks show them."""

from __future__ import annotations

from time import monotonic


def ms_since(began: float) -> int:
    """Return the milliseconds since a moment of the monotonic clock."""
    return round((monotonic() - began) * 1000)
