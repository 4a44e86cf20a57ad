"""``/v1/events`` and ``/v2/core/events``"""

from __future__ import annotations

from typing import Any

from stripe.params import EventListParams, EventRetrieveParams
from stripe.params.v2.core import EventListParams as ThinEventListParams
from stripe.params.v2.core import EventRetrieveParams as ThinEventRetrieveParams

from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find
from sandbox.payments.wire.lists import page_of, whole_v2_list
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("GET /v1/events/{id}", EventRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    return find("event", id)


@endpoint("GET /v1/events", EventListParams)
def list_(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("event")
    types = params.take("types", [])
    if type := params.take("type"):
        types = [*types, type]
    exact = [type for type in types if not type.endswith(".*")]
    for prefix in (type.removesuffix("*") for type in types if type.endswith(".*")):
        exact += found.filter(body__type__startswith=prefix).values_list("body__type", flat=True)
    return page_of(params, found.filter(body__type__in=exact) if types else found, "/v1/events")


@endpoint("GET /v2/core/events/{id}", ThinEventRetrieveParams)
def retrieve_thin(params: Params, id: str) -> StripeObject:
    return find("v2.core.event", id)


@endpoint("GET /v2/core/events", ThinEventListParams)
def list_thin(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("v2.core.event")
    if object_id := params.take("object_id"):
        found = found.filter(body__related_object__id=object_id)
    if types := params.take("types"):
        found = found.filter(body__type__in=types)
    params.ignore("limit")
    return whole_v2_list([event.body for event in found.order_by("-serial")])
