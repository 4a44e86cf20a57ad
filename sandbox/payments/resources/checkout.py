"""``/v1/checkout/sessions``"""

from __future__ import annotations

from typing import Any

from stripe.params.checkout import (
    SessionCreateParams,
    SessionExpireParams,
    SessionListLineItemsParams,
    SessionListParams,
    SessionRetrieveParams,
    SessionUpdateParams,
)

from sandbox.payments.business import checkouts, clock
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, find, merged
from sandbox.payments.wire.errors import Refusal, missing_parameter, not_simulated
from sandbox.payments.wire.expansion import includable
from sandbox.payments.wire.lists import page_of, page_of_bodies, whole_list
from sandbox.payments.wire.requests import Params, endpoint

_KEPT = (
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "customer_email",
    "locale",
    "payment_method_collection",
    "payment_method_types",
    "submit_type",
)
_SUBSCRIPTION_DATA = {
    "description",
    "metadata",
    "trial_end",
    "trial_period_days",
    "trial_settings",
}


@endpoint("POST /v1/checkout/sessions", SessionCreateParams)
def create(params: Params) -> StripeObject:
    if params.take("mode", "payment") != "subscription":
        raise not_simulated("checkouts other than mode=subscription", param="mode")
    if params.take("ui_mode", "hosted_page") != "hosted_page":
        raise not_simulated("checkouts in pages of one's own", param="ui_mode")
    if "success_url" not in params:
        raise missing_parameter("success_url")
    customer_id = params.take("customer")
    _require_one_customer(customer_id, params)
    if params.take("allow_promotion_codes", False):
        raise not_simulated("promotion codes", param="allow_promotion_codes")
    return checkouts.open_session(
        customer_id=customer_id,
        prices=_prices(params.take("line_items", [])),
        subscription_data=_subscription_data(params.take("subscription_data", {})),
        expires_at=_expires_at(params.take("expires_at"), customer_id or ""),
        metadata=merged({}, params.take("metadata", {})),
        success_url=params.take("success_url"),
        **params.take_given(*_KEPT),
    )


@endpoint("POST /v1/checkout/sessions/{id}", SessionUpdateParams)
def update(params: Params, id: str) -> StripeObject:
    session = find("checkout.session", id)
    changes: dict[str, Any] = {}
    if "metadata" in params:
        changes["metadata"] = merged(session["metadata"], params.take("metadata"))
    return change(session, **changes)


@endpoint("GET /v1/checkout/sessions/{id}", SessionRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    return find("checkout.session", id)


@endpoint("POST /v1/checkout/sessions/{id}/expire", SessionExpireParams)
def expire(params: Params, id: str) -> StripeObject:
    session = find("checkout.session", id)
    checkouts.expire(session)
    return session


@endpoint("GET /v1/checkout/sessions", SessionListParams)
def list_(params: Params) -> dict[str, Any]:
    given = params.take_given("customer", "status", "subscription", "payment_intent")
    found = StripeObject.objects.of("checkout.session")
    found = found.filter(**{f"body__{name}": value for name, value in given.items()})
    return page_of(params, found, "/v1/checkout/sessions")


@endpoint("GET /v1/checkout/sessions/{id}/line_items", SessionListLineItemsParams)
def list_line_items(params: Params, id: str) -> dict[str, Any]:
    items = find("checkout.session", id).hidden["items"]
    return page_of_bodies(params, items, f"/v1/checkout/sessions/{id}/line_items")


@includable("checkout.session", "line_items")
def _line_items(session: dict[str, Any]) -> dict[str, Any]:
    items = find("checkout.session", session["id"]).hidden["items"]
    return whole_list(items, f"/v1/checkout/sessions/{session['id']}/line_items")


def _require_one_customer(customer_id: str | None, params: Params) -> None:
    if customer_id:
        find("customer", customer_id, "customer")
        if "customer_email" in params:
            raise Refusal(
                "You may only specify one of these parameters: customer, customer_email.",
                code="parameters_exclusive",
            )


def _expires_at(given: int | None, customer_id: str) -> int | None:
    if given is None:
        return None
    now = clock.now(customer_id)
    if not now + 30 * 60 <= given <= now + checkouts.LIFE_S:
        raise Refusal(
            "The `expires_at` timestamp must be at least 30 minutes and less than 24 hours from "
            "Checkout Session creation.",
            param="expires_at",
        )
    return given


def _prices(line_items: list[dict[str, Any]]) -> checkouts.Prices:
    if not line_items:
        raise missing_parameter("line_items")
    prices = [_price(item, f"line_items[{n}]") for n, item in enumerate(line_items)]
    if not any(price["recurring"] for price, _ in prices):
        raise Refusal(
            "You specified `subscription` mode but passed no recurring prices. Did you mean to use "
            "`payment` mode?"
        )
    return prices


def _price(item: dict[str, Any], where: str) -> tuple[StripeObject, int | None]:
    """Return the price and how many of it; a metered one has no number."""
    if unknown := item.keys() - {"price", "quantity"}:
        raise not_simulated(f"the parameter {min(unknown)}", param=f"{where}[{min(unknown)}]")
    if "price" not in item:
        raise missing_parameter(f"{where}[price]")
    price = find("price", item["price"], f"{where}[price]")
    if not price["active"]:
        raise Refusal(
            "The price specified is inactive. This field only accepts active prices.",
            code="price_inactive",
            param=f"{where}[price]",
        )
    if price["recurring"] is None:
        raise not_simulated("prices that are paid once, in a subscription", param=where)
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


def _subscription_data(given: dict[str, Any]) -> dict[str, Any]:
    if unknown := given.keys() - _SUBSCRIPTION_DATA:
        name = f"subscription_data[{min(unknown)}]"
        raise not_simulated(f"the parameter {name}", param=name)
    return given
