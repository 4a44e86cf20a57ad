"""A shop with products, and a customer of it.

Requests use Stripe's own SDK, which calls the stand-in as it does in development.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import stripe
from django.db import connection

from sandbox.payments.transport import SandboxClient
from sandbox.tests.payments.receiver import Receiver


@pytest.fixture(autouse=True)
def sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK as the product configures it, but without delays between retries."""
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    monkeypatch.setattr(stripe, "default_http_client", SandboxClient())


@dataclass(frozen=True)
class Shop:
    """A month for 5 dollars, and minutes at 5 cents."""

    product: str
    base: str
    minute: str
    meter: str

    @property
    def line_items(self) -> list[dict[str, Any]]:
        return [{"price": self.base, "quantity": 1}, {"price": self.minute}]

    def checkout(self, customer: str | None = None, **params: Any) -> stripe.checkout.Session:
        return stripe.checkout.Session.create(
            **{
                "mode": "subscription",
                "line_items": self.line_items,
                "success_url": "https://shop.example.org/paid?session={CHECKOUT_SESSION_ID}",
                "cancel_url": "https://shop.example.org/left",
                **({"customer": customer} if customer else {}),
                **params,
            }
        )

    def use(self, customer: str, minutes: int, identifier: str, **params: Any) -> None:
        payload = {"stripe_customer_id": customer, "value": str(minutes)}
        stripe.billing.MeterEvent.create(
            event_name="minutes", payload=payload, identifier=identifier, **params
        )


def open_shop(cents_per_minute: str = "5") -> Shop:
    product = stripe.Product.create(name="Switchhook")
    meter = stripe.billing.Meter.create(
        display_name="Minutes", event_name="minutes", default_aggregation={"formula": "sum"}
    )
    base = stripe.Price.create(
        product=product.id,
        currency="usd",
        unit_amount=500,
        recurring={"interval": "month"},
        lookup_key="base",
    )
    minute = stripe.Price.create(
        product=product.id,
        currency="usd",
        unit_amount_decimal=cents_per_minute,
        recurring={"interval": "month", "usage_type": "metered", "meter": meter.id},
        lookup_key="minute",
    )
    return Shop(product.id, base.id, minute.id, meter.id)


@pytest.fixture
def shop(db: None) -> Shop:
    return open_shop()


@pytest.fixture
def customer(db: None) -> str:
    """The id of a customer."""
    return stripe.Customer.create(email="alice@example.org", name="Alice's Plumbing").id


@pytest.fixture
def subscribed(shop: Shop, customer: str) -> str:
    """The id of a customer who has subscribed, with a good card."""
    from sandbox.payments import testing

    testing.pay(str(shop.checkout(customer).url))
    return customer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An endpoint for events, which accepts everything unless told otherwise."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def no_jobs(db: None) -> None:
    """The queue's tables are not Django's, so they are not emptied between tests."""
    with connection.cursor() as cursor:
        cursor.execute("delete from procrastinate_jobs")
