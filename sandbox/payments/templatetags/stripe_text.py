"""Filters that make Stripe's values readable."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sandbox.payments.business import lines

register = template.Library()


@register.filter
def money(cents: Any, currency: str = "usd") -> str:
    """``500`` → ``$5.00``"""
    return lines.money(cents, currency)


@register.filter
def address(email: str) -> SafeString:
    """Let an email address break after the ``@`` if it does not fit on one line."""
    name, at, host = email.partition("@")
    return format_html("{}{}<wbr>{}", name, at, host)


@register.filter
def card_number(digits: str) -> str:
    """``4242424242424242`` → ``4242 4242 4242 4242``"""
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


@register.filter
def day(seconds: int | None) -> str:
    """``1767225600`` → ``1 January 2026``"""
    return f"{_moment(seconds):%-d %B %Y}" if seconds else ""


@register.filter
def moment(seconds: int | None) -> str:
    """``1767225600`` → ``1 January 2026, 00:00 UTC``"""
    return f"{_moment(seconds):%-d %B %Y, %H:%M} UTC" if seconds else ""


@register.filter
def span(seconds: int) -> str:
    """``90000`` → ``1 day 1 hour``"""
    days, rest = divmod(abs(seconds), 86_400)
    parts = [(days, "day"), (rest // 3_600, "hour"), (rest % 3_600 // 60, "minute")]
    named = [f"{number} {unit}{'s' if number > 1 else ''}" for number, unit in parts if number]
    return " ".join(named[:2]) or "less than a minute"


@register.filter
def words(status: str | None) -> str:
    """``past_due`` → ``past due``"""
    return (status or "").replace("_", " ")


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
