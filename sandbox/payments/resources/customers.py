"""``/v1/customers``"""

from __future__ import annotations

import re
from typing import Any

from stripe.params import (
    CustomerCreateParams,
    CustomerDeleteParams,
    CustomerListParams,
    CustomerListSourcesParams,
    CustomerRetrieveParams,
    CustomerUpdateParams,
)

from sandbox.payments.business import cards, customers
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, find, merged
from sandbox.payments.wire.errors import Refusal, missing
from sandbox.payments.wire.expansion import includable
from sandbox.payments.wire.lists import page_of, whole_list
from sandbox.payments.wire.requests import Params, endpoint

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PLAIN = (
    "address",
    "business_name",
    "description",
    "email",
    "individual_name",
    "name",
    "phone",
    "preferred_locales",
    "shipping",
    "tax_exempt",
)


@endpoint("POST /v1/customers", CustomerCreateParams)
def create(params: Params) -> StripeObject:
    fields = _fields(params)
    metadata = merged({}, params.take("metadata", {}))
    customer = customers.create(**fields, metadata=metadata)
    _set_invoice_settings(customer, params)
    return customer


@endpoint("POST /v1/customers/{id}", CustomerUpdateParams)
def update(params: Params, id: str) -> StripeObject:
    customer = find("customer", id)
    fields = _fields(params)
    if "metadata" in params:
        fields["metadata"] = merged(customer["metadata"], params.take("metadata"))
    change(customer, "customer.updated", **fields)
    _set_invoice_settings(customer, params)
    return customer


@endpoint("GET /v1/customers/{id}", CustomerRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    """A deleted one is answered with too, and says so."""
    customer = StripeObject.objects.filter(kind="customer", id=id).first()
    if customer is None:
        raise missing("customer", id)
    return customer


@endpoint("DELETE /v1/customers/{id}", CustomerDeleteParams)
def delete(params: Params, id: str) -> StripeObject:
    return customers.delete(find("customer", id))


@endpoint("GET /v1/customers", CustomerListParams)
def list_(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("customer")
    if email := params.take("email"):
        found = found.filter(body__email=email)
    return page_of(params, found, "/v1/customers")


@endpoint("GET /v1/customers/{id}/sources", CustomerListSourcesParams)
def list_sources(params: Params, id: str) -> dict[str, Any]:
    """Sources are what payment methods were before; nobody here has any."""
    params.ignore("limit", "object", "starting_after", "ending_before")
    return _no_sources(find("customer", id).body)


@includable("customer", "sources")
def _no_sources(customer: dict[str, Any]) -> dict[str, Any]:
    return whole_list([], f"/v1/customers/{customer['id']}/sources")


@includable("customer", "subscriptions")
def _subscriptions(customer: dict[str, Any]) -> dict[str, Any]:
    found = StripeObject.objects.of("subscription").filter(customer_id=customer["id"])
    live = found.exclude(body__status__in=["canceled", "incomplete_expired"]).order_by("-serial")
    return whole_list(
        [subscription.body for subscription in live],
        f"/v1/customers/{customer['id']}/subscriptions",
    )


def _fields(params: Params) -> dict[str, Any]:
    fields = params.take_given(*_PLAIN)
    email = fields.get("email")
    if email and not _EMAIL.fullmatch(email):
        raise Refusal(f"Invalid email address: {email}", code="email_invalid", param="email")
    return fields


def _set_invoice_settings(customer: StripeObject, params: Params) -> None:
    settings = params.take("invoice_settings")
    if settings is None:
        return
    if method := settings.get("default_payment_method"):
        cards.attached(method, customer.id, "invoice_settings[default_payment_method]")
    change(
        customer,
        "customer.updated",
        invoice_settings=customer["invoice_settings"] | settings,
    )
