from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from core.api import as_number, iso, page_of
from core.errors import ApiError


def page(query: str) -> tuple[int, int]:
    return page_of(Request(APIRequestFactory().get(f"/api/usage?{query}")))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (50, 0)),
        ("limit=1", (1, 0)),
        ("limit=100&offset=7", (100, 7)),
        ("limit=101", (100, 0)),
        ("limit=2147483647&offset=2147483647", (100, 2147483647)),
        ("offset=0", (50, 0)),
    ],
)
def test_a_page(query, expected):
    assert page(query) == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%00", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=2147483648", "limit"),
        ("offset=-1", "offset"),
        (f"offset={'9' * 5000}", "offset"),
    ],
)
def test_no_page(query, field):
    with pytest.raises(ApiError) as caught:
        page(query)
    assert caught.value.status_code == 400
    assert list(caught.value.fields) == [field]


def test_times_are_utc_with_milliseconds():
    there = timezone(timedelta(hours=2))
    assert iso(datetime(2026, 4, 1, 11, 30, 0, 123456, there)) == "2026-04-01T09:30:00.123Z"
    assert iso(datetime(2026, 4, 1, 9, 30, tzinfo=UTC)) == "2026-04-01T09:30:00.000Z"


@pytest.mark.parametrize(
    ("amount", "number"), [("5", 5), ("5.00", 5), ("0.05", 0.05), ("0.018000", 0.018), ("0", 0)]
)
def test_money_is_a_number(amount, number):
    assert as_number(Decimal(amount)) == number
    assert type(as_number(Decimal(amount))) is type(number)
