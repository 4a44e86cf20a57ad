"""Products and prices, as Stripe's SDK asks for them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import stripe

from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db


def price(shop: Shop, **params: Any) -> stripe.Price:
    recurring = {"interval": "month"}
    return stripe.Price.create(
        **{"product": shop.product, "currency": "usd", "unit_amount": 700, "recurring": recurring}
        | params
    )


def found(**params: Any) -> dict[str, stripe.Price]:
    return {each.id: each for each in stripe.Price.list(active=True, **params)}


def test_it_works(shop: Shop) -> None:
    base, minute = found()[shop.base], found()[shop.minute]
    assert (base.unit_amount, base.unit_amount_decimal) == (500, Decimal(500))
    assert (base.type, base.recurring.usage_type, base.recurring.meter) == (
        "recurring",
        "licensed",
        None,
    )
    assert (minute.recurring.usage_type, minute.recurring.meter) == ("metered", shop.meter)


def test_a_fraction_of_a_cent(shop: Shop) -> None:
    made = price(shop, unit_amount=None, unit_amount_decimal="1.25")
    assert (made.unit_amount, made.unit_amount_decimal) == (None, Decimal("1.25"))


def test_found_by_lookup_key(shop: Shop) -> None:
    assert list(found(lookup_keys=["minute"])) == [shop.minute]
    assert found(lookup_keys=["base", "minute"]).keys() == {shop.base, shop.minute}


def test_a_lookup_key_moves_when_it_is_told_to(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        price(shop, lookup_key="base")
    newer = price(shop, lookup_key="base", transfer_lookup_key=True)
    assert list(found(lookup_keys=["base"])) == [newer.id]
    assert found()[shop.base].lookup_key is None


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"unit_amount_decimal": "5"}, "parameters_exclusive"),
        ({"unit_amount": None}, "parameter_missing"),
        ({"product": None}, "resource_missing"),
        ({"unit_amount": -1}, None),
        ({"recurring": {"interval": "year"}}, None),
        ({"recurring": {"interval": "month", "usage_type": "metered"}}, None),
        (
            {"recurring": {"interval": "month", "usage_type": "metered", "meter": "mtr_no"}},
            "resource_missing",
        ),
    ],
)
def test_refused(shop: Shop, params: dict[str, Any], code: str | None) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        price(shop, **params)
    assert refusal.value.code == code
    assert len(found()) == 2


def test_product_with_an_id_of_its_own(db: None) -> None:
    made = stripe.Product.create(id="switchhook", name="Switchhook")
    assert stripe.Product.retrieve("switchhook") == made
    with pytest.raises(stripe.InvalidRequestError, match="already exists") as refusal:
        stripe.Product.create(id="switchhook", name="Switchhook")
    assert refusal.value.code == "resource_already_exists"
    assert stripe.Product.modify("switchhook", active=False).active is False
