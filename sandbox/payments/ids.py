"""Ids in Stripe's format: a prefix for the kind, and unguessable letters and digits."""

from __future__ import annotations

import secrets
from typing import Final

PREFIXES: Final = {
    "billing.meter": "mtr_test",
    "billing_portal.configuration": "bpc",
    "billing_portal.session": "bps",
    "checkout.session": "cs_test",
    "customer": "cus",
    "event": "evt",
    "invoice": "in",
    "invoice_payment": "inpay",
    "item": "li",
    "line_item": "il",
    "payment_intent": "pi",
    "payment_method": "pm",
    "price": "price",
    "product": "prod",
    "refund": "re",
    "subscription": "sub",
    "subscription_item": "si",
    "v2.core.event": "evt_test",
    "v2.core.event_destination": "ed_test",
    "webhook_endpoint": "we",
}
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_id(kind: str) -> str:
    return f"{PREFIXES[kind]}_{random_text(24)}"


def random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
