"""``/v1/payment_methods``, and those of a customer"""

from __future__ import annotations

from typing import Any

from stripe.params import (
    CustomerListPaymentMethodsParams,
    CustomerRetrievePaymentMethodParams,
    PaymentMethodAttachParams,
    PaymentMethodCreateParams,
    PaymentMethodDetachParams,
    PaymentMethodListParams,
    PaymentMethodRetrieveParams,
    PaymentMethodUpdateParams,
)

from sandbox.payments.business import cards
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, find, merged
from sandbox.payments.wire.errors import Refusal, not_simulated
from sandbox.payments.wire.lists import page_of
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("POST /v1/payment_methods", PaymentMethodCreateParams)
def create(params: Params) -> StripeObject:
    if params.take("type") != "card":
        raise not_simulated("payment methods other than cards", param="type")
    card = params.take("card", {})
    params.ignore("allow_redisplay")
    if "number" not in card:
        raise not_simulated("cards without a test number", param="card")
    details = params.take("billing_details")
    return cards.create_method(cards.card_numbered(card["number"]), billing_details=details)


@endpoint("POST /v1/payment_methods/{id}", PaymentMethodUpdateParams)
def update(params: Params, id: str) -> StripeObject:
    method = find("payment_method", id)
    changes: dict[str, Any] = {}
    if details := params.take("billing_details"):
        changes["billing_details"] = method["billing_details"] | details
    if "metadata" in params:
        changes["metadata"] = merged(method["metadata"], params.take("metadata"))
    return change(method, "payment_method.updated", **changes)


@endpoint("POST /v1/payment_methods/{id}/attach", PaymentMethodAttachParams)
def attach(params: Params, id: str) -> StripeObject:
    customer = find("customer", params.take("customer"), "customer")
    card = cards.card_known_as(id)
    method = cards.create_method(card) if card else find("payment_method", id, "payment_method")
    if method["customer"] not in (None, customer.id):
        raise Refusal("The payment method you provided has already been attached to a customer.")
    cards.attach(method, customer.id)
    return method


@endpoint("POST /v1/payment_methods/{id}/detach", PaymentMethodDetachParams)
def detach(params: Params, id: str) -> StripeObject:
    method = find("payment_method", id)
    if method["customer"] is None:
        raise Refusal(
            "The payment method you provided is not attached to a customer so detachment is "
            "impossible.",
            param="payment_method",
        )
    cards.detach(method)
    return method


@endpoint("GET /v1/payment_methods/{id}", PaymentMethodRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    return find("payment_method", id)


@endpoint("GET /v1/payment_methods", PaymentMethodListParams)
def list_(params: Params) -> dict[str, Any]:
    customer_id = params.take("customer", "")
    return _page(params, find("customer", customer_id, "customer").id, "/v1/payment_methods")


@endpoint("GET /v1/customers/{id}/payment_methods", CustomerListPaymentMethodsParams)
def list_of_customer(params: Params, id: str) -> dict[str, Any]:
    params.ignore("allow_redisplay")
    return _page(params, find("customer", id).id, f"/v1/customers/{id}/payment_methods")


@endpoint("GET /v1/customers/{id}/payment_methods/{method}", CustomerRetrievePaymentMethodParams)
def retrieve_of_customer(params: Params, id: str, method: str) -> StripeObject:
    return cards.attached(method, find("customer", id).id, "payment_method")


def _page(params: Params, customer_id: str, url: str) -> dict[str, Any]:
    found = cards.methods_of(customer_id)
    if type := params.take("type"):
        found = found.filter(body__type=type)
    return page_of(params, found, url)
