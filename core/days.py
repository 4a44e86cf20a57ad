"""The range of days to filter by: wide enough for every call, and far from overflows."""

from datetime import UTC, date, datetime, time

FIRST = date(2000, 1, 1)
LAST = date(2100, 12, 31)
RANGE = f"Use a day from {FIRST} to {LAST}."


_BEGINNING, _END = datetime.combine(FIRST, time.min, UTC), datetime.combine(LAST, time.max, UTC)


def is_in_range(moment: datetime) -> bool:
    """Return True if an aware time is within the range."""
    return _BEGINNING <= moment <= _END


def nearest_in_range(moment: datetime) -> datetime:
    """Return the time itself, or the nearest one within the range."""
    return min(max(moment, _BEGINNING), _END)
