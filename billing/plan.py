"""What is sold: a month of the base, and minutes. The prices are settings."""

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
# A product of its own: a line of an invoice is named after the product, not after the price.
MINUTES_PRODUCT_ID = "switchhook_minutes"
MINUTES_PRODUCT_NAME = "Switchhook minutes"
BASE_LOOKUP_KEY = "switchhook_base"
MINUTE_LOOKUP_KEY = "switchhook_minute"
METER_EVENT_NAME = "switchhook_minutes"


def to_cents(dollars: Decimal) -> Decimal:
    """Return dollars as Stripe counts them: ``500``, ``0.5``, exactly, without trailing zeros."""
    cents = (dollars * 100).normalize()
    return cents.quantize(Decimal(1)) if cents == cents.to_integral_value() else cents


def to_dollars(cents: int | Decimal) -> Decimal:
    return Decimal(cents) / 100


def base_cents() -> Decimal:
    """What a month costs, in cents."""
    return to_cents(settings.MONTHLY_BASE)


def minute_cents() -> Decimal:
    """What a minute costs, in cents."""
    return to_cents(settings.PER_MINUTE_RATE)


def is_base_price(price: Mapping[str, Any]) -> bool:
    """Whether a price of Stripe's (its JSON) is a month of the base, at today's price or another.

    Subscriptions keep the price that they began with, and an operator may have agreed on one.
    """
    product = price["product"]
    product_id = product if isinstance(product, str) else product["id"]
    recurring = price.get("recurring") or {}
    return product_id == PRODUCT_ID and recurring.get("usage_type") == "licensed"


def price_ids() -> tuple[str, str]:
    """Return the ids of the base price and the minute price, as the settings have them.

    Raises 502 when Stripe does not know these prices yet: nobody is sold what they were not told.
    """
    base = PlanPart.objects.filter(pk=PlanPart.Name.BASE_PRICE, cents=base_cents()).first()
    minute = PlanPart.objects.filter(pk=PlanPart.Name.MINUTE_PRICE, cents=minute_cents()).first()
    if base is None or minute is None:
        raise _not_set_up()
    return base.stripe_id, minute.stripe_id


def part_id(name: PlanPart.Name) -> str:
    """Return the id of what ``setup_stripe`` has made under that name; raise 502 before that."""
    part = PlanPart.objects.filter(pk=name).first()
    if part is None:
        raise _not_set_up()
    return part.stripe_id


def _not_set_up() -> PaymentsUnavailable:
    log.error("plan_not_at_stripe", remedy="run manage.py setup_stripe")
    return PaymentsUnavailable()
