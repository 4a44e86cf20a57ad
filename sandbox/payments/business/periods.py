"""Billing periods: months that keep the day on which a subscription began."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Period(NamedTuple):
    """From start to before end, in seconds since 1970."""

    start: int
    end: int


def month_from(start: int, *, anchor: int) -> Period:
    """Return the month that begins at start, and ends at the anchor's next date.

    A subscription that began on the 31st ends its period on the last day of a shorter month, and
    the next period on the 31st again.
    """
    months = 1
    while (end := _after(anchor, months)) <= start:
        months += 1
    return Period(start, end)


def period_of(subscription: dict[str, Any]) -> Period:
    """Return a subscription's current period, which its items share."""
    item = subscription["items"]["data"][0]
    return Period(item["current_period_start"], item["current_period_end"])


def _after(anchor: int, months: int) -> int:
    start = datetime.fromtimestamp(anchor, UTC)
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return int(start.replace(year=year, month=month, day=day).timestamp())
