"""Helpers for the REST API's endpoints: bodies, texts, times, numbers, paging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any, TypeVar

import orjson
from django.db.models import Model, QuerySet
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.metadata import BaseMetadata
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from core import days, keyset
from core.errors import ApiError, invalid
from core.replica import listed
from core.texts import line_problem, text_problem

Row = TypeVar("Row", bound=Model)

MAX_PAGE_SIZE = 100
DEFAULT_PAGE_SIZE = 50
# The deepest nesting of lists and objects in a body. Code that reads them recurses.
DEEPEST = 64

_ISO = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"


class JsonParser(JSONParser):
    """Strict JSON in UTF-8: no ``NaN``, no lone surrogates, no nesting that overflows a stack.

    It is a ``JSONParser`` because Django REST framework limits the size of bodies for those only.
    """

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            body = orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise ParseError(str(error)) from None
        if is_deeper_than(body, DEEPEST):
            raise invalid(
                {name: [f"Use at most {DEEPEST} levels of nesting."] for name in _deep_in(body)}
            )
        return body


def _deep_in(body: Any) -> list[str]:
    """Return the fields of a body that are nested too deep."""
    fields = body.items() if isinstance(body, dict) else ()
    return [name for name, value in fields if is_deeper_than(value, DEEPEST - 1)] or ["body"]


def is_deeper_than(body: Any, depth: int) -> bool:
    """Return True if JSON has more than ``depth`` levels of lists and objects. Not recursive."""
    level = _containers([body])
    for _ in range(depth):
        level = _containers(
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        )
    return bool(level)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


class AllowedMethods(BaseMetadata):
    """Responds to ``OPTIONS`` with the ``Allow`` header only, and no details of views."""

    def determine_metadata(self, request: Request, view: Any) -> dict[str, Any]:
        return {}


class ObjectSerializer(serializers.Serializer[Any]):
    """The serializer of a JSON object."""

    default_error_messages = {"invalid": "Send a JSON object."}


@extend_schema_serializer(many=False)
class AnswerSerializer(ObjectSerializer):
    """The shape of a response, for the API's description: views build responses themselves."""


def validated(serializer_class: type[serializers.Serializer[Any]], request: Request) -> Any:
    """Return the request's body by the serializer's sources, without what was left null.

    Raises 400 with the fields that are wrong, and 411.
    """
    if "Transfer-Encoding" in request.headers and not request.headers.get("Content-Length"):
        # Django REST framework would take it for an empty one.
        raise ApiError(411, "length_required", "Send the body with a Content-Length.")
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    return {name: value for name, value in serializer.validated_data.items() if value is not None}


class TextField(serializers.CharField):
    """A string. Rejects numbers, which Django REST framework would convert.

    Also rejects control characters (``core.texts``), and line breaks unless ``lines`` is set.
    """

    def __init__(self, *, lines: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lines = lines

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        # Before spaces are trimmed. One line break at the end is allowed.
        if problem := text_problem(data) if self.lines else line_problem(data.removesuffix("\n")):
            raise serializers.ValidationError(problem)
        return super().to_internal_value(data)


class FlagField(serializers.BooleanField):
    """``true`` or ``false``. Django REST framework would also accept ``0`` and ``"y"``."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class WholeNumberField(serializers.IntegerField):
    """An integer, not a string of digits."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds: ``2026-04-01T09:30:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_number(amount: Decimal) -> int | float:
    """Return a decimal as the JSON number that reads the same: ``5``, ``0.05``."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


@extend_schema_field({"type": "string", "format": "date-time", "pattern": _ISO})
class UtcDateTimeField(serializers.DateTimeField):
    def to_representation(self, value: datetime) -> str:
        return iso(value)


@extend_schema_field({"type": "string", "format": "date-time"})
class MomentField(serializers.DateTimeField):
    """A time to filter by, in UTC unless it has an offset.

    A time outside the supported range is replaced by the nearest one within it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default_timezone=UTC, **kwargs)

    def to_internal_value(self, value: Any) -> datetime:
        return days.nearest_in_range(super().to_internal_value(value))


@extend_schema_field({"type": "number"})
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


def page_with_more(request: Request, rows: QuerySet[Row]) -> tuple[list[Row], dict[str, Any]]:
    """Return a page of rows, and its ``limit``, ``offset`` and ``hasMore``.

    Nothing is counted: one extra row is read.
    """
    limit, offset = page_of(request)
    found = part_of(rows, offset, limit + 1)
    return found[:limit], {"limit": limit, "offset": offset, "hasMore": len(found) > limit}


def page_with_cursor(
    request: Request, rows: QuerySet[Row], *, by: keyset.Order = keyset.BY_TIME
) -> tuple[list[Row], dict[str, Any]]:
    """Return a page of rows, the newest first, as :func:`page_with_more` with ``nextCursor``.

    The page begins after the request's ``cursor`` or, without one, at its ``offset``.
    """
    after = _cursor(request)
    limit, offset = page_of(request)
    ordered = rows.filter(after.older(by)) if after else rows
    found = part_of(ordered.order_by(*keyset.newest_first(by)), offset, limit + 1)
    page, has_more = found[:limit], len(found) > limit
    cursor = str(keyset.Cursor.of(page[-1])) if has_more else None
    return page, {"limit": limit, "offset": offset, "hasMore": has_more, "nextCursor": cursor}


def _cursor(request: Request) -> keyset.Cursor | None:
    if (text := request.query_params.get("cursor")) is None:
        return None
    if (cursor := keyset.Cursor.read(text)) is None:
        raise invalid({"cursor": ["Send the nextCursor of the page before."]})
    if "offset" in request.query_params:
        raise invalid({"offset": ["Leave out offset when you send a cursor."]})
    return cursor


def part_of(rows: QuerySet[Row], offset: int, count: int) -> list[Row]:
    """Return rows from an offset on, in their order.

    Only the keys are read first, so that the rows before the offset are skipped in the index.
    """

    def read(database: str) -> list[Row]:
        here = rows.using(database)
        if not offset:
            return list(here[:count])
        keys = list(here.values_list("pk", flat=True)[offset : offset + count])
        return list(here.filter(pk__in=keys))

    return listed(read)


def _whole_number(request: Request, name: str, *, default: int, least: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    # Check the length first: Python does not parse numbers with thousands of digits.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) < 2**31):
        raise invalid({name: [f"Send a whole number of at least {least}."]})
    return int(text)
