"""``/v1/customers``"""

from __future__ import annotations

import re
from typing import Any

from stripe.params import CustomerCreateParams, CustomerRetrieveParams, CustomerUpdateParams

from sandbox.payments.business import customers
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, find, merged
from sandbox.payments.wire.errors import Refusal, missing
from sandbox.payments.wire.requests import Params, endpoint

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@endpoint("POST /v1/customers", CustomerCreateParams)
def create(params: Params) -> StripeObject:
    metadata = merged({}, params.take("metadata", {}))
    return customers.create(**_fields(params), metadata=metadata)


@endpoint("POST /v1/customers/{id}", CustomerUpdateParams)
def update(params: Params, id: str) -> StripeObject:
    customer = find("customer", id)
    fields = _fields(params)
    if "metadata" in params:
        fields["metadata"] = merged(customer["metadata"], params.take("metadata"))
    return change(customer, "customer.updated", **fields)


@endpoint("GET /v1/customers/{id}", CustomerRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    """Return the customer, even a deleted one, which is marked as such."""
    customer = StripeObject.objects.filter(kind="customer", id=id).first()
    if customer is None:
        raise missing("customer", id)
    return customer


def _fields(params: Params) -> dict[str, Any]:
    fields = params.take_given("email", "name")
    email = fields.get("email")
    if email and not _EMAIL.fullmatch(email):
        raise Refusal(f"Invalid email address: {email}", code="email_invalid", param="email")
    return fields
