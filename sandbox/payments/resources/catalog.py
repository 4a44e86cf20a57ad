"""``/v1/products`` and ``/v1/prices``"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from stripe.params import (
    PriceCreateParams,
    PriceListParams,
    PriceRetrieveParams,
    PriceUpdateParams,
    ProductCreateParams,
    ProductDeleteParams,
    ProductListFeaturesParams,
    ProductListParams,
    ProductRetrieveParams,
    ProductUpdateParams,
)

from sandbox.payments.business import clock
from sandbox.payments.models import StripeObject, StripeObjectQuerySet
from sandbox.payments.objects import change, create, find, merged
from sandbox.payments.wire.errors import Refusal, missing_parameter, not_simulated
from sandbox.payments.wire.expansion import includable
from sandbox.payments.wire.lists import page_of, whole_list
from sandbox.payments.wire.requests import Params, endpoint

_PRODUCT_FIELDS = (
    "active",
    "description",
    "images",
    "marketing_features",
    "name",
    "package_dimensions",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
)


@endpoint("POST /v1/products", ProductCreateParams)
def create_product(params: Params) -> StripeObject:
    id = params.take("id", "")
    if StripeObject.objects.filter(id=id).exists():
        raise Refusal("Product already exists.", code="resource_already_exists", param="id")
    blank: dict[str, Any] = {
        "active": True,
        "default_price": None,
        "description": None,
        "images": [],
        "marketing_features": [],
        "metadata": merged({}, params.take("metadata", {})),
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": params.take("type", "service"),
        "unit_label": None,
        "updated": clock.real(),
        "url": None,
    }
    fields = params.take_given(*_PRODUCT_FIELDS)
    return create("product", "product.created", id=id, **blank | fields)


@endpoint("POST /v1/products/{id}", ProductUpdateParams)
def update_product(params: Params, id: str) -> StripeObject:
    product = find("product", id)
    fields = params.take_given(*_PRODUCT_FIELDS)
    if "metadata" in params:
        fields["metadata"] = merged(product["metadata"], params.take("metadata"))
    if price := params.take("default_price"):
        fields["default_price"] = find("price", price, "default_price").id
    return change(product, "product.updated", **fields, updated=clock.real())


@endpoint("GET /v1/products/{id}", ProductRetrieveParams)
def retrieve_product(params: Params, id: str) -> StripeObject:
    return find("product", id)


@endpoint("DELETE /v1/products/{id}", ProductDeleteParams)
def delete_product(params: Params, id: str) -> dict[str, Any]:
    product = find("product", id)
    if StripeObject.objects.of("price").filter(body__product=id).exists():
        raise Refusal(
            "This product cannot be deleted because it has one or more user-created prices."
        )
    product.is_deleted = True
    product.save(update_fields=["is_deleted"])
    change(product, "product.deleted")
    return {"id": id, "object": "product", "deleted": True}


@endpoint("GET /v1/products", ProductListParams)
def list_products(params: Params) -> dict[str, Any]:
    found = _with_fields(StripeObject.objects.of("product"), params, "active", "shippable", "url")
    if ids := params.take("ids"):
        found = found.filter(id__in=ids)
    return page_of(params, found, "/v1/products")


@endpoint("GET /v1/products/{id}/features", ProductListFeaturesParams)
def list_features(params: Params, id: str) -> dict[str, Any]:
    """Features that a product gives a right to; none here does."""
    params.ignore("limit", "starting_after", "ending_before")
    return whole_list([], f"/v1/products/{find('product', id).id}/features")


@endpoint("POST /v1/prices", PriceCreateParams)
def create_price(params: Params) -> StripeObject:
    product = _product_of(params)
    recurring = params.take("recurring")
    lookup_key = params.take("lookup_key")
    _take_lookup_key(lookup_key, may_move=params.take("transfer_lookup_key", False))
    if params.take("billing_scheme", "per_unit") != "per_unit":
        raise not_simulated("tiered prices", param="billing_scheme")
    return create(
        "price",
        "price.created",
        active=params.take("active", True),
        billing_scheme="per_unit",
        currency=params.take("currency"),
        custom_unit_amount=None,
        lookup_key=lookup_key,
        metadata=merged({}, params.take("metadata", {})),
        nickname=params.take("nickname"),
        product=product.id,
        recurring=_recurring(recurring) if recurring else None,
        tax_behavior=params.take("tax_behavior", "unspecified"),
        tiers_mode=None,
        transform_quantity=None,
        type="recurring" if recurring else "one_time",
        **_amounts(params),
    )


@endpoint("POST /v1/prices/{id}", PriceUpdateParams)
def update_price(params: Params, id: str) -> StripeObject:
    price = find("price", id)
    fields = params.take_given("active", "nickname", "tax_behavior")
    if "lookup_key" in params:
        key = fields["lookup_key"] = params.take("lookup_key")
        may_move = params.take("transfer_lookup_key", False)
        if key != price["lookup_key"]:
            _take_lookup_key(key, may_move=may_move)
    if "metadata" in params:
        fields["metadata"] = merged(price["metadata"], params.take("metadata"))
    return change(price, "price.updated", **fields)


@endpoint("GET /v1/prices/{id}", PriceRetrieveParams)
def retrieve_price(params: Params, id: str) -> StripeObject:
    return find("price", id)


@endpoint("GET /v1/prices", PriceListParams)
def list_prices(params: Params) -> dict[str, Any]:
    found = _with_fields(
        StripeObject.objects.of("price"), params, "active", "currency", "product", "type"
    )
    if keys := params.take("lookup_keys"):
        found = found.filter(body__lookup_key__in=keys)
    for name, value in params.take("recurring", {}).items():
        found = found.filter(**{f"body__recurring__{name}": value})
    return page_of(params, found, "/v1/prices")


@includable("price", "currency_options")
def _currency_options(price: dict[str, Any]) -> dict[str, Any]:
    names = ("custom_unit_amount", "tax_behavior", "unit_amount", "unit_amount_decimal")
    return {price["currency"]: {name: price[name] for name in names}}


@includable("price", "tiers")
def _tiers(price: dict[str, Any]) -> None:
    return None


def _with_fields(found: StripeObjectQuerySet, params: Params, *names: str) -> StripeObjectQuerySet:
    given = params.take_given(*names)
    return found.filter(**{f"body__{name}": value for name, value in given.items()})


def _product_of(params: Params) -> StripeObject:
    product, data = params.take("product"), params.take("product_data")
    if product and data:
        raise Refusal(
            "You may only specify one of these parameters: product, product_data.",
            code="parameters_exclusive",
        )
    if data:
        return create_product(Params(data))
    if not product:
        raise missing_parameter("product")
    return find("product", product, "product")


def _recurring(given: dict[str, Any]) -> dict[str, Any]:
    usage_type = given.get("usage_type", "licensed")
    meter = given.get("meter")
    if usage_type == "metered" and not meter:
        raise Refusal(
            "A meter is required for prices with `usage_type=metered`.", param="recurring[meter]"
        )
    if meter and find("billing.meter", meter, "recurring[meter]")["status"] != "active":
        raise Refusal("The meter is inactive.", param="recurring[meter]")
    return {
        "interval": given["interval"],
        "interval_count": given.get("interval_count", 1),
        "meter": meter,
        "trial_period_days": given.get("trial_period_days"),
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
        "unit_amount_decimal": f"{amount:f}" if not is_whole else str(int(amount)),
    }


def _take_lookup_key(key: str | None, *, may_move: bool) -> None:
    """Take the key from the price that has it; raise Refusal if it may not be taken."""
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
