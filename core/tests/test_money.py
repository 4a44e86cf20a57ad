"""Money on pages."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.money import dollars, price, small_dollars


@pytest.mark.parametrize(
    ("amount", "shown"), [("1234.5", "$1,234.50"), ("0.005", "$0.01"), ("0", "$0.00")]
)
def test_an_amount_has_cents(amount: str, shown: str) -> None:
    assert dollars(Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("amount", "shown"), [("0.031416", "$0.0314"), ("0.1", "$0.1000"), ("0", "$0.0000")]
)
def test_a_small_amount_has_four_decimals(amount: str, shown: str) -> None:
    assert small_dollars(Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("amount", "shown"), [("0.05", "$0.05"), ("0.0125", "$0.0125"), ("5", "$5.00")]
)
def test_a_price_has_the_decimals_that_it_needs(amount: str, shown: str) -> None:
    assert price(Decimal(amount)) == shown
