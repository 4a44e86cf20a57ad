"""``/v1/products`` and ``/v1/prices``"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from stripe.params import (
    PriceCreateParams,
    PriceListParams,
    ProductCreateParams,
    ProductListFeaturesParams,
    ProductRetrieveParams,
    ProductUpdateParams,
)

from sandbox.payments.business import clock
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, create, find
from sandbox.payments.wire.errors import Refusal, missing_parameter, not_simulated
from sandbox.payments.wire.lists import page_of, whole_list
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("POST /v1/products", ProductCreateParams)
def create_product(params: Params) -> StripeObject:
    id = params.take("id", "")
    if StripeObject.objects.filter(id=id).exists():
        raise Refusal("Product already exists.", code="resource_already_exists", param="id")
    return create(
        "product", "product.created", id=id, name=params.take("name"), updated=clock.real()
    )


@endpoint("POST /v1/products/{id}", ProductUpdateParams)
def update_product(params: Params, id: str) -> StripeObject:
    fields = params.take_given("active", "name")
    return change(find("product", id), "product.updated", **fields, updated=clock.real())


@endpoint("GET /v1/products/{id}", ProductRetrieveParams)
def retrieve_product(params: Params, id: str) -> StripeObject:
    return find("product", id)


@endpoint("GET /v1/products/{id}/features", ProductListFeaturesParams)
def list_features(params: Params, id: str) -> dict[str, Any]:
    """List the features of a product, of which there are none here."""
    return whole_list([], f"/v1/products/{find('product', id).id}/features")


@endpoint("POST /v1/prices", PriceCreateParams)
def create_price(params: Params) -> StripeObject:
    product = find("product", params.take("product", ""), "product")
    lookup_key = params.take("lookup_key")
    _take_lookup_key(lookup_key, may_move=params.take("transfer_lookup_key", False))
    return create(
        "price",
        "price.created",
        currency=params.take("currency"),
        lookup_key=lookup_key,
        product=product.id,
        recurring=_recurring(params.take("recurring")),
        **_amounts(params),
    )


@endpoint("GET /v1/prices", PriceListParams)
def list_prices(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("price").having(params.take_given("active"))
    if keys := params.take("lookup_keys"):
        found = found.filter(body__lookup_key__in=keys)
    return page_of(params, found, "/v1/prices")


def _recurring(given: dict[str, Any] | None) -> dict[str, Any]:
    if given is None:
        raise missing_parameter("recurring")
    if given["interval"] != "month" or given.get("interval_count", 1) != 1:
        raise not_simulated("prices for anything but a month", param="recurring[interval]")
    usage_type = given.get("usage_type", "licensed")
    meter = given.get("meter")
    if usage_type == "metered" and not meter:
        raise Refusal(
            "A meter is required for prices with `usage_type=metered`.", param="recurring[meter]"
        )
    if meter:
        find("billing.meter", meter, "recurring[meter]")
    return {
        "interval": "month",
        "interval_count": 1,
        "meter": meter,
        "trial_period_days": None,
        "usage_type": usage_type,
    }


def _amounts(params: Params) -> dict[str, Any]:
    whole, exact = params.take("unit_amount"), params.take("unit_amount_decimal")
    if whole is not None and exact is not None:
        raise Refusal(
            "You may only specify one of these parameters: unit_amount, unit_amount_decimal.",
            code="parameters_exclusive",
        )
    if whole is None and exact is None:
        raise missing_parameter("unit_amount")
    amount = Decimal(whole if exact is None else exact)
    if amount < 0 or amount != round(amount, 12):
        raise Refusal(
            "Invalid decimal: must be at least 0 and contain at most 12 decimal places.",
            param="unit_amount_decimal",
        )
    is_whole = amount == amount.to_integral_value()
    return {
        "unit_amount": int(amount) if is_whole else None,
        "unit_amount_decimal": str(int(amount)) if is_whole else f"{amount:f}",
    }


def _take_lookup_key(key: str | None, *, may_move: bool) -> None:
    """Take the lookup key from the price that has it; raise Refusal if that is not allowed."""
    holder = key and StripeObject.objects.of("price").filter(body__lookup_key=key).first()
    if not holder:
        return
    if not may_move:
        raise Refusal(
            f"A price (`{holder.id}`) already uses that lookup key.",
            code="resource_already_exists",
            param="lookup_key",
        )
    change(holder, "price.updated", lookup_key=None)
