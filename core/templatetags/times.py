"""Times and days on pages, in the active time zone: ``{% load times %}``."""

from __future__ import annotations

from datetime import UTC, date, datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core import zones

register = template.Library()

_FORMS = {"long": zones.long, "short": zones.short, "clock": zones.clock}


@register.simple_tag
def moment(value: datetime | None, form: str = "long") -> str:
    """Write a time as ``3 Nov 2026, 14:05:11 EST``; ``short`` leaves out the seconds, and
    ``clock`` the day as well.

    Its title is the time in UTC. No time is a dash.
    """
    if value is None:
        return "\N{EN DASH}"
    return _time(value, _FORMS[form](value), title=zones.in_utc(value))


@register.simple_tag
def offset(value: datetime, text: str) -> SafeString:
    """Write a time as ``text``, such as ``1.5 s``; its title is the time."""
    return _time(value, text, title=zones.long(value))


@register.simple_tag
def zone_name() -> str:
    """Write the active zone's name: ``America/New York``."""
    return timezone.get_current_timezone_name().replace("_", " ")


@register.simple_tag
def day(value: date) -> SafeString:
    """Write the day of a time in the active zone, or a day: ``3 Nov 2026``."""
    return _day(timezone.localtime(value) if isinstance(value, datetime) else value)


@register.simple_tag
def utc_day(value: date) -> SafeString:
    """Write the day of a time in UTC, as billing counts days."""
    return _day(value.astimezone(UTC) if isinstance(value, datetime) else value)


def _day(value: date) -> SafeString:
    return format_html(
        '<time datetime="{}">{}</time>', f"{value:%Y-%m-%d}", f"{value.day} {value:%b %Y}"
    )


def _time(value: datetime, text: str, *, title: str) -> SafeString:
    machine = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return format_html('<time datetime="{}" title="{}">{}</time>', machine, title, text)
