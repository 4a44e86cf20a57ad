"""``/v1/billing/meters`` and ``/v1/billing/meter_events``"""

from __future__ import annotations

from typing import Any

from stripe.params.billing import (
    MeterCreateParams,
    MeterDeactivateParams,
    MeterEventCreateParams,
    MeterListEventSummariesParams,
    MeterListParams,
    MeterReactivateParams,
    MeterRetrieveParams,
    MeterUpdateParams,
)

from sandbox.payments.business import clock, metering
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, create, find
from sandbox.payments.wire.errors import Refusal, not_simulated
from sandbox.payments.wire.lists import page_of, page_of_bodies
from sandbox.payments.wire.requests import Params, endpoint

_WINDOWS = {None: 60, "hour": clock.HOUR, "day": clock.DAY}


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
    if aggregation["formula"] == "last":
        raise not_simulated("the aggregation 'last'", param="default_aggregation[formula]")
    mapping = {"event_payload_key": "stripe_customer_id", "type": "by_id"}
    return create(
        "billing.meter",
        "billing.meter.created",
        customer_mapping=params.take("customer_mapping", mapping),
        default_aggregation=aggregation,
        display_name=params.take("display_name"),
        event_name=event_name,
        event_time_window=params.take("event_time_window"),
        status="active",
        status_transitions={"deactivated_at": None},
        updated=clock.real(),
        value_settings=params.take("value_settings", {"event_payload_key": "value"}),
    )


@endpoint("POST /v1/billing/meters/{id}", MeterUpdateParams)
def update_meter(params: Params, id: str) -> StripeObject:
    changes = params.take_given("display_name")
    return change(find("billing.meter", id), "billing.meter.updated", **changes)


@endpoint("GET /v1/billing/meters/{id}", MeterRetrieveParams)
def retrieve_meter(params: Params, id: str) -> StripeObject:
    return find("billing.meter", id)


@endpoint("GET /v1/billing/meters", MeterListParams)
def list_meters(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("billing.meter")
    if status := params.take("status"):
        found = found.filter(body__status=status)
    return page_of(params, found, "/v1/billing/meters")


@endpoint("POST /v1/billing/meters/{id}/deactivate", MeterDeactivateParams)
def deactivate(params: Params, id: str) -> StripeObject:
    return change(
        find("billing.meter", id),
        "billing.meter.deactivated",
        status="inactive",
        status_transitions={"deactivated_at": clock.real()},
        updated=clock.real(),
    )


@endpoint("POST /v1/billing/meters/{id}/reactivate", MeterReactivateParams)
def reactivate(params: Params, id: str) -> StripeObject:
    return change(
        find("billing.meter", id),
        "billing.meter.reactivated",
        status="active",
        status_transitions={"deactivated_at": None},
        updated=clock.real(),
    )


@endpoint("GET /v1/billing/meters/{id}/event_summaries", MeterListEventSummariesParams)
def list_event_summaries(params: Params, id: str) -> dict[str, Any]:
    meter = find("billing.meter", id)
    customer_id = params.take("customer")
    start, end = params.take("start_time"), params.take("end_time")
    window = params.take("value_grouping_window")
    for name, at in (("start_time", start), ("end_time", end)):
        if at % _WINDOWS[window]:
            boundary = window or "minute"
            raise Refusal(f"{name} must be aligned with {boundary} boundaries.", param=name)
    if start >= end:
        raise Refusal("end_time must be after start_time.", param="end_time")
    summaries = metering.summaries(meter, customer_id, start, end, window and _WINDOWS[window])
    return page_of_bodies(params, summaries, f"/v1/billing/meters/{id}/event_summaries")


@endpoint("POST /v1/billing/meter_events", MeterEventCreateParams)
def create_event(params: Params) -> dict[str, Any]:
    return metering.take(
        event_name=params.take("event_name"),
        payload=params.take("payload"),
        identifier=params.take("identifier"),
        timestamp=params.take("timestamp"),
    )
