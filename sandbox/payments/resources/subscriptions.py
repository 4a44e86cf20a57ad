"""``/v1/subscriptions`` and ``/v1/subscription_items``"""

from __future__ import annotations

from typing import Any

from stripe.params import (
    SubscriptionCancelParams,
    SubscriptionCreateParams,
    SubscriptionItemListParams,
    SubscriptionListParams,
    SubscriptionResumeParams,
    SubscriptionRetrieveParams,
    SubscriptionUpdateParams,
)

from sandbox.payments.business import cards, clock, standing, subscribing
from sandbox.payments.business.subscribing import Order
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find, merged
from sandbox.payments.wire.errors import Refusal, missing_parameter, not_simulated
from sandbox.payments.wire.lists import page_of, page_of_bodies
from sandbox.payments.wire.requests import Params, endpoint

_ENDED = ("canceled", "incomplete_expired")


@endpoint("POST /v1/subscriptions", SubscriptionCreateParams)
def create(params: Params) -> StripeObject:
    customer = find("customer", params.take("customer", ""), "customer")
    behavior = params.take("payment_behavior", "allow_incomplete")
    if behavior == "pending_if_incomplete":
        raise not_simulated("payment_behavior=pending_if_incomplete", param="payment_behavior")
    params.ignore("off_session", "proration_behavior")
    order = Order(
        customer_id=customer.id,
        prices=[_price(item, f"items[{n}]") for n, item in enumerate(params.take("items", []))],
        trial_end=_trial_end(params, customer.id),
        is_paid_now=behavior != "default_incomplete",
        fields=_fields(params, customer.id) | {"metadata": merged({}, params.take("metadata", {}))},
    )
    if not order.prices:
        raise missing_parameter("items")
    ends_with_period = params.take("cancel_at_period_end", False)
    subscription, decline = subscribing.begin(order)
    if decline and behavior == "error_if_incomplete":
        raise decline.refusal(keeps_changes=False)
    if ends_with_period:
        subscribing.cancel_at_period_end(subscription, wanted=True)
    return subscription


@endpoint("POST /v1/subscriptions/{id}", SubscriptionUpdateParams)
def update(params: Params, id: str) -> StripeObject:
    subscription = find("subscription", id)
    changes = _fields(params, subscription.customer_id)
    params.ignore("off_session", "payment_behavior", "proration_behavior")
    if "metadata" in params:
        changes["metadata"] = merged(subscription["metadata"], params.take("metadata"))
    details = params.take("cancellation_details", {})
    if "cancel_at_period_end" in params:
        wanted = params.take("cancel_at_period_end")
        subscribing.cancel_at_period_end(subscription, wanted=wanted, **details)
    if "cancel_at" in params:
        subscribing.cancel_at(subscription, params.take("cancel_at"), **details)
    if "trial_end" in params:
        end = params.take("trial_end")
        now = clock.now(subscription.customer_id)
        subscribing.set_trial_end(subscription, now if end == "now" else end)
    standing.update(subscription, "customer.subscription.updated", **changes)
    return subscription


@endpoint("GET /v1/subscriptions/{id}", SubscriptionRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    return find("subscription", id)


@endpoint("DELETE /v1/subscriptions/{id}", SubscriptionCancelParams)
def cancel(params: Params, id: str) -> StripeObject:
    if params.take("prorate", False):
        raise not_simulated("prorations", param="prorate")
    subscription = find("subscription", id)
    subscribing.cancel(
        subscription,
        invoice_now=params.take("invoice_now", False),
        **params.take("cancellation_details", {}),
    )
    return subscription


@endpoint("POST /v1/subscriptions/{id}/resume", SubscriptionResumeParams)
def resume(params: Params, id: str) -> StripeObject:
    params.ignore("billing_cycle_anchor", "proration_behavior")
    subscription = find("subscription", id)
    subscribing.resume(subscription)
    return subscription


@endpoint("GET /v1/subscriptions", SubscriptionListParams)
def list_(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("subscription")
    if customer_id := params.take("customer"):
        found = found.filter(customer_id=customer_id)
    if price := params.take("price"):
        found = found.filter(body__items__data__contains=[{"price": {"id": price}}])
    match params.take("status"):
        case "all":
            pass
        case "ended":
            found = found.filter(body__status__in=_ENDED)
        case None:
            found = found.exclude(body__status__in=_ENDED)
        case status:
            found = found.filter(body__status=status)
    return page_of(params, found, "/v1/subscriptions")


@endpoint("GET /v1/subscription_items", SubscriptionItemListParams)
def list_items(params: Params) -> dict[str, Any]:
    subscription = find("subscription", params.take("subscription"), "subscription")
    return page_of_bodies(params, subscription["items"]["data"], subscription["items"]["url"])


def _price(item: dict[str, Any], where: str) -> tuple[StripeObject, int | None]:
    if unknown := item.keys() - {"price", "quantity"}:
        raise not_simulated(f"the parameter {min(unknown)}", param=f"{where}[{min(unknown)}]")
    if "price" not in item:
        raise missing_parameter(f"{where}[price]")
    price = find("price", item["price"], f"{where}[price]")
    if price["recurring"] is None:
        raise Refusal(
            "The price specified is set to `type=one_time` but this field only accepts prices with "
            "`type=recurring`.",
            param=f"{where}[price]",
        )
    return price, item.get("quantity")


def _fields(params: Params, customer_id: str) -> dict[str, Any]:
    """Return the fields that can be set at any time."""
    fields = params.take_given("default_payment_method", "description", "trial_settings")
    if method := fields.get("default_payment_method"):
        cards.attached(method, customer_id, "default_payment_method")
    return fields


def _trial_end(params: Params, customer_id: str) -> int | None:
    days, end = params.take("trial_period_days"), params.take("trial_end")
    if end == "now":
        return None
    return clock.now(customer_id) + days * clock.DAY if days else end
