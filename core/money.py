"""Formats money for pages."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

_CENT = Decimal("0.01")
_SMALL = Decimal("0.0001")


def dollars(amount: Decimal) -> str:
    """Return an amount in cents: ``$1,234.50``."""
    return f"${amount.quantize(_CENT, ROUND_HALF_UP):,}"


def small_dollars(amount: Decimal) -> str:
    """Return an amount with four decimals, to compare with other small ones: ``$0.0129``."""
    return f"${amount.quantize(_SMALL, ROUND_HALF_UP):,}"


def price(amount: Decimal) -> str:
    """Return a price, which may have fractions of a cent: ``$0.05``, ``$0.0125``."""
    return dollars(amount) if amount == amount.quantize(_CENT) else f"${amount.normalize():f}"
