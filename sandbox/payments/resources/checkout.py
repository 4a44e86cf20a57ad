"""``/v1/checkout/sessions``"""

from __future__ import annotations

from typing import Any

from stripe.params.checkout import SessionCreateParams, SessionExpireParams, SessionRetrieveParams

from sandbox.payments.business import checkouts
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find
from sandbox.payments.wire.errors import Refusal, missing_parameter, not_simulated
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("POST /v1/checkout/sessions", SessionCreateParams)
def create(params: Params) -> StripeObject:
    if params.take("mode", "payment") != "subscription":
        raise not_simulated("checkouts other than mode=subscription", param="mode")
    if "success_url" not in params:
        raise missing_parameter("success_url")
    data = params.take("subscription_data", {})
    if data.keys() - {"metadata"}:
        raise not_simulated("subscription_data but its metadata", param="subscription_data")
    return checkouts.open_session(
        customer=find("customer", params.take("customer", ""), "customer"),
        prices=_prices(params.take("line_items", [])),
        subscription_data=data,
        **params.take_given("cancel_url", "client_reference_id", "success_url"),
    )


@endpoint("GET /v1/checkout/sessions/{id}", SessionRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    return find("checkout.session", id)


@endpoint("POST /v1/checkout/sessions/{id}/expire", SessionExpireParams)
def expire(params: Params, id: str) -> StripeObject:
    session = find("checkout.session", id)
    checkouts.expire(session)
    return session


def _prices(line_items: list[dict[str, Any]]) -> checkouts.Prices:
    if not line_items:
        raise missing_parameter("line_items")
    return [_price(item, f"line_items[{n}]") for n, item in enumerate(line_items)]


def _price(item: dict[str, Any], where: str) -> tuple[StripeObject, int | None]:
    """Return the price and its quantity; a metered price has none."""
    if unknown := item.keys() - {"price", "quantity"}:
        raise not_simulated(f"the parameter {min(unknown)}", param=f"{where}[{min(unknown)}]")
    if "price" not in item:
        raise missing_parameter(f"{where}[price]")
    price = find("price", item["price"], f"{where}[price]")
    is_metered = price["recurring"]["usage_type"] == "metered"
    if is_metered and "quantity" in item:
        raise Refusal(
            "Quantity should not be specified where usage_type is `metered`. Remove `quantity` "
            f"from `{where}`",
            param=f"{where}[quantity]",
        )
    if not is_metered and "quantity" not in item:
        raise Refusal(
            f"Quantity is required. Add `quantity` to `{where}`", param=f"{where}[quantity]"
        )
    return price, item.get("quantity")
