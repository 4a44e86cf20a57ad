"""What every endpoint of the REST API shares: times, numbers, paging."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from rest_framework import serializers
from rest_framework.request import Request

from config.errors import ApiError

MAX_PAGE_SIZE = 100
DEFAULT_PAGE_SIZE = 50


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds: ``2026-04-01T09:30:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_number(amount: Decimal) -> int | float:
    """Return a decimal as the JSON number that reads the same: ``5``, ``0.05``."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


class UtcDateTimeField(serializers.DateTimeField):
    def to_representation(self, value: datetime | None) -> str | None:
        return iso(value) if value else None


class NumberField(serializers.DecimalField):
    """A decimal that is read and written as a JSON number."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(max_digits=None, decimal_places=None, **kwargs)  # type: ignore[arg-type]

    def to_representation(self, value: Decimal) -> int | float:  # type: ignore[override]
        return as_number(value)


def page_of(request: Request) -> tuple[int, int]:
    """Return ``(limit, offset)`` of a list request; a limit over 100 is served as 100."""
    limit = _whole_number(request, "limit", default=DEFAULT_PAGE_SIZE, least=1)
    return min(limit, MAX_PAGE_SIZE), _whole_number(request, "offset", default=0, least=0)


def _whole_number(request: Request, name: str, *, default: int, least: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and least <= int(text) < 2**31):
        message = f"Send a whole number of at least {least}."
        raise ApiError(400, "invalid_request", f"{name}: {message}", fields={name: [message]})
    return int(text)
