"""The plan: a monthly base fee, and minutes. The prices are settings."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings

from billing.models import PlanPart
from billing.stripe_api import PaymentsUnavailable

log = structlog.get_logger(__name__)

CURRENCY = "usd"
PRODUCT_ID = "switchhook"
PRODUCT_NAME = "Switchhook"
# A separate product, because an invoice line shows the product's name, not the price's.
MINUTES_PRODUCT_ID = "switchhook_minutes"
MINUTES_PRODUCT_NAME = "Switchhook minutes"
BASE_LOOKUP_KEY = "switchhook_base"
MINUTE_LOOKUP_KEY = "switchhook_minute"
METER_EVENT_NAME = "switchhook_minutes"


def to_cents(dollars: Decimal) -> Decimal:
    """Return dollars as exact cents without trailing zeros, as in ``500`` or ``0.5``."""
    cents = (dollars * 100).normalize()
    return cents.quantize(Decimal(1)) if cents == cents.to_integral_value() else cents


def to_dollars(cents: int | Decimal) -> Decimal:
    return Decimal(cents) / 100


def base_cents() -> Decimal:
    """Return the base fee in cents."""
    return to_cents(settings.MONTHLY_BASE)


def minute_cents() -> Decimal:
    """Return the price of a minute in cents."""
    return to_cents(settings.PER_MINUTE_RATE)


def is_base_price(price: Mapping[str, Any]) -> bool:
    """Return True if a Stripe price (its JSON) is for the base fee, at today's amount or another.

    Subscriptions keep the price that they began with, and an operator may have agreed on one.
    """
    product = price["product"]
    product_id = product if isinstance(product, str) else product["id"]
    recurring = price.get("recurring") or {}
    return product_id == PRODUCT_ID and recurring.get("usage_type") == "licensed"


def product_of_line(line: Mapping[str, Any]) -> str:
    """Return the id of the product that an invoice line (its JSON) is for, or ""."""
    details = (line.get("pricing") or {}).get("price_details") or {}
    return str(details.get("product") or "")


def price_ids() -> tuple[str, str]:
    """Return the ids of the base price and the minute price at the amounts of the settings.

    Raises 502 if Stripe does not have these prices yet, so that nobody pays a different one.
    """
    base = PlanPart.objects.filter(pk=PlanPart.Name.BASE_PRICE, cents=base_cents()).first()
    minute = PlanPart.objects.filter(pk=PlanPart.Name.MINUTE_PRICE, cents=minute_cents()).first()
    if base is None or minute is None:
        raise _not_set_up()
    return base.stripe_id, minute.stripe_id


def part_id(name: PlanPart.Name) -> str:
    """Return the id of a part that ``setup_stripe`` created; raise 502 if it did not yet."""
    part = PlanPart.objects.filter(pk=name).first()
    if part is None:
        raise _not_set_up()
    return part.stripe_id


def _not_set_up() -> PaymentsUnavailable:
    log.error("plan_not_at_stripe", remedy="run manage.py setup_stripe")
    return PaymentsUnavailable()
