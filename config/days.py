"""Which days may be asked about: enough for every call, and far from where dates overflow."""

from datetime import UTC, date, datetime, time

FIRST = date(2000, 1, 1)
LAST = date(2100, 12, 31)
RANGE = f"Use a day from {FIRST} to {LAST}."


def is_in_range(moment: datetime) -> bool:
    """Whether an aware time may be asked about."""
    return datetime.combine(FIRST, time.min, UTC) <= moment <= datetime.combine(LAST, time.max, UTC)
