"""Invoice lines: one for each item of a subscription, to the cent."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sandbox.payments.bodies import blank
from sandbox.payments.business import metering
from sandbox.payments.business.periods import Period
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find

TIMES = "\N{MULTIPLICATION SIGN}"


def lines_for(
    subscription: StripeObject, *, ahead: Period | None, behind: Period | None
) -> list[dict[str, Any]]:
    """Return the lines: licensed prices for the next period, metered ones for the past one."""
    lines = []
    for item in subscription["items"]["data"]:
        is_metered = _is_metered(item["price"])
        period = behind if is_metered else ahead
        if period is not None:
            quantity = (
                _used(item, subscription, period) if is_metered else Decimal(item["quantity"])
            )
            lines.append(_line(subscription, item, period, quantity))
    return lines


def cost(price: dict[str, Any], quantity: Decimal) -> int:
    """Return cents, rounded half up once for the whole quantity."""
    exact = Decimal(price["unit_amount_decimal"]) * quantity
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def money(cents: Decimal | int | str, currency: str = "usd") -> str:
    """Return a readable amount: ``$5.00``, ``$0.0125``."""
    amount = Decimal(cents) / 100
    decimals = max(2, -int(amount.normalize().as_tuple().exponent))
    sign = "-" if amount < 0 else ""
    symbol = "$" if currency == "usd" else f"{currency.upper()} "
    return f"{sign}{symbol}{abs(amount):,.{decimals}f}"


def _is_metered(price: dict[str, Any]) -> bool:
    return bool(price["recurring"]["usage_type"] == "metered")


def _used(item: dict[str, Any], subscription: StripeObject, period: Period) -> Decimal:
    meter_id = item["price"]["recurring"]["meter"]
    return metering.usage(meter_id, subscription.customer_id, *period)


def _line(
    subscription: StripeObject, item: dict[str, Any], period: Period, quantity: Decimal
) -> dict[str, Any]:
    price = item["price"]
    amount = cost(price, quantity)
    return blank("line_item") | {
        "id": new_id("line_item"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": _description(price, quantity),
        "metadata": subscription["metadata"],
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": False,
                "proration_details": {"credited_items": None},
                "subscription": subscription.id,
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": period._asdict(),
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": int(quantity.to_integral_value(ROUND_HALF_UP)),
        "quantity_decimal": f"{quantity.normalize():f}",
        "subscription": subscription.id,
        "subtotal": amount,
    }


def _description(price: dict[str, Any], quantity: Decimal) -> str:
    product = find("product", price["product"])["name"]
    each = money(price["unit_amount_decimal"], price["currency"])
    return (
        f"{quantity.normalize():f} {TIMES} {product} (at {each} / {price['recurring']['interval']})"
    )
