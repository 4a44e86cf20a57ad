"""``/v1/subscriptions``"""

from __future__ import annotations

from typing import Any

from stripe.params import (
    SubscriptionCancelParams,
    SubscriptionListParams,
    SubscriptionRetrieveParams,
)

from sandbox.payments.business import subscribing
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find
from sandbox.payments.wire.errors import not_simulated
from sandbox.payments.wire.lists import page_of
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("GET /v1/subscriptions/{id}", SubscriptionRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    return find("subscription", id)


@endpoint("GET /v1/subscriptions", SubscriptionListParams)
def list_(params: Params) -> dict[str, Any]:
    if params.take("status") != "all":
        raise not_simulated("lists of subscriptions other than status=all", param="status")
    found = StripeObject.objects.of("subscription").filter(customer_id=params.take("customer"))
    return page_of(params, found, "/v1/subscriptions")


@endpoint("DELETE /v1/subscriptions/{id}", SubscriptionCancelParams)
def cancel(params: Params, id: str) -> StripeObject:
    subscription = find("subscription", id)
    subscribing.cancel(subscription, invoice_now=params.take("invoice_now", False))
    return subscription
