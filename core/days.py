"""Which days may be asked about: enough for every call, and far from where dates overflow."""

from datetime import UTC, date, datetime, time

FIRST = date(2000, 1, 1)
LAST = date(2100, 12, 31)
RANGE = f"Use a day from {FIRST} to {LAST}."


_BEGINNING, _END = datetime.combine(FIRST, time.min, UTC), datetime.combine(LAST, time.max, UTC)


def is_in_range(moment: datetime) -> bool:
    """Whether an aware time may be asked about."""
    return _BEGINNING <= moment <= _END


def nearest_in_range(moment: datetime) -> datetime:
    """Return the time itself, or the first or last one that may be asked about."""
    return min(max(moment, _BEGINNING), _END)
