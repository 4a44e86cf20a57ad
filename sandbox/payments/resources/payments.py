"""``/v1/payment_intents``, ``setup_intents``, ``charges``, ``refunds``, ``balance_transactions``"""

from __future__ import annotations

from typing import Any

from stripe.params import (
    BalanceTransactionListParams,
    BalanceTransactionRetrieveParams,
    ChargeListParams,
    ChargeRetrieveParams,
    PaymentIntentListParams,
    PaymentIntentRetrieveParams,
    RefundCreateParams,
    RefundListParams,
    RefundRetrieveParams,
    SetupIntentListParams,
    SetupIntentRetrieveParams,
)

from sandbox.payments.business import charging
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, find, merged
from sandbox.payments.wire.errors import Refusal
from sandbox.payments.wire.expansion import includable
from sandbox.payments.wire.lists import page_of, whole_list
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("GET /v1/payment_intents/{id}", PaymentIntentRetrieveParams)
def retrieve_intent(params: Params, id: str) -> StripeObject:
    params.ignore("client_secret")
    return find("payment_intent", id)


@endpoint("GET /v1/payment_intents", PaymentIntentListParams)
def list_intents(params: Params) -> dict[str, Any]:
    return _page("payment_intent", params, "customer")


@endpoint("GET /v1/setup_intents/{id}", SetupIntentRetrieveParams)
def retrieve_setup_intent(params: Params, id: str) -> StripeObject:
    params.ignore("client_secret")
    return find("setup_intent", id)


@endpoint("GET /v1/setup_intents", SetupIntentListParams)
def list_setup_intents(params: Params) -> dict[str, Any]:
    return _page("setup_intent", params, "customer", "payment_method")


@endpoint("GET /v1/charges/{id}", ChargeRetrieveParams)
def retrieve_charge(params: Params, id: str) -> StripeObject:
    return find("charge", id)


@endpoint("GET /v1/charges", ChargeListParams)
def list_charges(params: Params) -> dict[str, Any]:
    return _page("charge", params, "customer", "payment_intent")


@includable("charge", "refunds")
def _refunds_of(charge: dict[str, Any]) -> dict[str, Any]:
    found = StripeObject.objects.of("refund").filter(body__charge=charge["id"])
    bodies = [refund.body for refund in found.order_by("-serial")]
    return whole_list(bodies, f"/v1/charges/{charge['id']}/refunds")


@endpoint("POST /v1/refunds", RefundCreateParams)
def create_refund(params: Params) -> StripeObject:
    charge = _charge_to_refund(params.take("charge"), params.take("payment_intent"))
    made = charging.refund(charge, params.take("amount"), params.take("reason"))
    return change(made, metadata=merged({}, params.take("metadata", {})))


@endpoint("GET /v1/refunds/{id}", RefundRetrieveParams)
def retrieve_refund(params: Params, id: str) -> StripeObject:
    return find("refund", id)


@endpoint("GET /v1/refunds", RefundListParams)
def list_refunds(params: Params) -> dict[str, Any]:
    return _page("refund", params, "charge", "payment_intent")


@endpoint("GET /v1/balance_transactions/{id}", BalanceTransactionRetrieveParams)
def retrieve_balance_transaction(params: Params, id: str) -> StripeObject:
    return find("balance_transaction", id)


@endpoint("GET /v1/balance_transactions", BalanceTransactionListParams)
def list_balance_transactions(params: Params) -> dict[str, Any]:
    return _page("balance_transaction", params, "currency", "source", "type")


def _page(kind: str, params: Params, *filters: str) -> dict[str, Any]:
    given = params.take_given(*filters)
    found = StripeObject.objects.of(kind).filter(
        **{f"body__{name}": value for name, value in given.items()}
    )
    return page_of(params, found, f"/v1/{kind}s")


def _charge_to_refund(charge_id: str | None, intent_id: str | None) -> StripeObject:
    if charge_id:
        return find("charge", charge_id, "charge")
    if not intent_id:
        raise Refusal(
            "One of the following params should be provided for this request: payment_intent or "
            "charge.",
            code="parameter_missing",
        )
    intent = find("payment_intent", intent_id, "payment_intent")
    if intent["status"] != "succeeded":
        raise Refusal(
            f"This PaymentIntent ({intent.id}) does not have a successful charge to refund.",
            param="payment_intent",
        )
    return find("charge", intent["latest_charge"])
