"""Time zones: their names, and times as people in one of them read them.

The functions that write a time use Django's active time zone, which each page of a customer sets to
the account's (``dashboard.access``). Elsewhere it is UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from django.core.exceptions import ValidationError
from django.utils import timezone

LONGEST_NAME = 64
WRONG = "Choose a time zone from the list, such as America/New_York."

# The machine's own zone, and the one of a machine that was never set up.
_NOT_PLACES = {"localtime", "Factory"}
# Other names, such as EST and US/Eastern, are old ones of these.
_REGIONS = {
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
}
_OFFSET = re.compile(r"[+-]\d+")


@cache
def names() -> frozenset[str]:
    """Return the names of the IANA database, its old ones too: browsers still report them."""
    return frozenset(available_timezones() - _NOT_PLACES)


@cache
def places() -> list[tuple[str, str]]:
    """Return the zones to choose from: names, and their cities as people search for them."""
    found = sorted(name for name in names() if name.partition("/")[0] in _REGIONS)
    return [("UTC", "UTC"), *((name, name.rpartition("/")[2].replace("_", " ")) for name in found)]


def validate_time_zone(name: str) -> None:
    if name not in names():
        raise ValidationError(WRONG, code="time_zone")


def zone_of(name: str) -> ZoneInfo:
    """Return a zone; UTC if this machine's database does not have it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def abbreviation(moment: datetime) -> str:
    """Return ``EST``, or ``UTC+5:30`` for a zone that has no abbreviation of its own."""
    name = moment.strftime("%Z")
    return _offset(moment) if _OFFSET.fullmatch(name) else name


def long(moment: datetime) -> str:
    """Return ``3 Nov 2026, 14:05:11 EST``."""
    local = timezone.localtime(moment)
    return f"{local.day} {local:%b %Y, %H:%M:%S} {abbreviation(local)}"


def short(moment: datetime) -> str:
    """Return ``3 Nov 2026, 14:05 EST``."""
    local = timezone.localtime(moment)
    return f"{local.day} {local:%b %Y, %H:%M} {abbreviation(local)}"


def clock(moment: datetime) -> str:
    """Return ``14:05 EST``."""
    local = timezone.localtime(moment)
    return f"{local:%H:%M} {abbreviation(local)}"


def midnight(day: date) -> datetime:
    """Return the moment in UTC at which a day begins in the active zone.

    A midnight that clocks skip is the moment at which they do; of two, it is the first.
    """
    begin = datetime.combine(day, time(), timezone.get_current_timezone())
    return begin.astimezone(UTC)


def in_utc(moment: datetime) -> str:
    """Return ``3 Nov 2026, 19:05:11 UTC``."""
    utc = moment.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M:%S} UTC"


def _offset(moment: datetime) -> str:
    offset = moment.strftime("%z")  # +0530
    hours, minutes = int(offset[1:3]), offset[3:5]
    return f"UTC{offset[0]}{hours}" + (f":{minutes}" if minutes != "00" else "")
