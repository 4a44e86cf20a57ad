"""``/v1/billing/meters`` and ``/v1/billing/meter_events``"""

from __future__ import annotations

from typing import Any

from stripe.params.billing import (
    MeterCreateParams,
    MeterEventCreateParams,
    MeterListEventSummariesParams,
    MeterListParams,
)

from sandbox.payments.business import clock, metering
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import create, find
from sandbox.payments.wire.errors import Refusal, not_simulated
from sandbox.payments.wire.lists import page_of, whole_list
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("POST /v1/billing/meters", MeterCreateParams)
def create_meter(params: Params) -> StripeObject:
    event_name = params.take("event_name")
    if metering.active_meter(event_name):
        raise Refusal(
            f"An active meter with the event name '{event_name}' already exists.",
            code="resource_already_exists",
            param="event_name",
        )
    aggregation = params.take("default_aggregation")
    if aggregation["formula"] != "sum":
        raise not_simulated("aggregations other than sum", param="default_aggregation[formula]")
    return create(
        "billing.meter",
        "billing.meter.created",
        default_aggregation=aggregation,
        display_name=params.take("display_name"),
        event_name=event_name,
        updated=clock.real(),
        **params.take_given("customer_mapping", "value_settings"),
    )


@endpoint("GET /v1/billing/meters", MeterListParams)
def list_meters(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("billing.meter")
    return page_of(params, found.having(params.take_given("status")), "/v1/billing/meters")


@endpoint("GET /v1/billing/meters/{id}/event_summaries", MeterListEventSummariesParams)
def list_event_summaries(params: Params, id: str) -> dict[str, Any]:
    start, end = params.take("start_time"), params.take("end_time")
    for name, at in (("start_time", start), ("end_time", end)):
        if at % 60:
            raise Refusal(f"{name} must be aligned with minute boundaries.", param=name)
    if start >= end:
        raise Refusal("end_time must be after start_time.", param="end_time")
    summary = metering.summary(find("billing.meter", id), params.take("customer"), start, end)
    return whole_list([summary], f"/v1/billing/meters/{id}/event_summaries")


@endpoint("POST /v1/billing/meter_events", MeterEventCreateParams)
def create_event(params: Params) -> dict[str, Any]:
    return metering.take(
        event_name=params.take("event_name"),
        payload=params.take("payload"),
        identifier=params.take("identifier"),
        timestamp=params.take("timestamp"),
    )
