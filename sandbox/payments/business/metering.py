"""Metered usage: the accepted meter events, their sums, and the reports of invalid ones.

https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from sandbox.payments.business import clock
from sandbox.payments.events import emit_thin, iso
from sandbox.payments.models import MeterReading, StripeObject
from sandbox.payments.wire.errors import Refusal, not_simulated

OLDEST_S = 35 * clock.DAY
FUTURE_S = 300
UNIQUE_FOR = timedelta(hours=24)


def active_meter(event_name: str) -> StripeObject | None:
    meters = StripeObject.objects.of("billing.meter")
    return meters.filter(body__event_name=event_name, body__status="active").first()


def take(
    *, event_name: str, payload: dict[str, str], identifier: str | None, timestamp: int | None
) -> dict[str, Any]:
    """Accept a meter event, and return it.

    Raises Refusal for what Stripe detects at once: the same identifier within a day, a time outside
    the limits, an invalid value. Other errors are reported later, in an event of their own.
    """
    identifier = identifier or str(uuid.uuid4())
    meter = active_meter(event_name)
    if meter is None:
        raise not_simulated("events of no meter", param="event_name")
    customer_id = payload.get(meter["customer_mapping"]["event_payload_key"], "")
    timestamp = clock.now(customer_id) if timestamp is None else timestamp
    _require_near(timestamp, customer_id)
    value = _value(payload, meter)
    _require_new(identifier, meter)
    _record(meter, identifier, customer_id, value, timestamp)
    return {
        "object": "billing.meter_event",
        "created": clock.real(),
        "event_name": event_name,
        "identifier": identifier,
        "livemode": False,
        "payload": payload,
        "timestamp": timestamp,
    }


def usage(meter_id: str, customer_id: str, start: int, end: int) -> Decimal:
    """Return the sum of a customer's events, from start to before end."""
    readings = MeterReading.objects.filter(
        meter_id=meter_id, customer_id=customer_id, timestamp__gte=start, timestamp__lt=end
    )
    return Decimal(readings.aggregate(total=Sum("value"))["total"] or 0)


def summary(meter: StripeObject, customer_id: str, start: int, end: int) -> dict[str, Any]:
    """Return Stripe's summary of a customer's events, from start to before end."""
    return {
        "id": f"mtrusg_test_{start}_{end}",
        "object": "billing.meter_event_summary",
        "aggregated_value": float(usage(meter.id, customer_id, start, end)),
        "end_time": end,
        "livemode": False,
        "meter": meter.id,
        "start_time": start,
    }


def _require_near(timestamp: int, customer_id: str) -> None:
    """Raise Refusal for an old or future time, on the customer's clock and the real one.

    The sender of events does not advance clocks, and uses the real one.
    """
    clocks = (clock.real(), clock.now(customer_id))
    message = (
        "The timestamp must be within the past 35 calendar days or up to 5 minutes in the future."
    )
    if timestamp < min(clocks) - OLDEST_S:
        raise Refusal(message, code="timestamp_too_far_in_past", param="timestamp")
    if timestamp > max(clocks) + FUTURE_S:
        raise Refusal(message, code="timestamp_in_future", param="timestamp")


def _value(payload: dict[str, str], meter: StripeObject) -> Decimal:
    key = meter["value_settings"]["event_payload_key"]
    try:
        value = Decimal(payload[key])
    except (KeyError, InvalidOperation):
        value = Decimal("nan")
    if not value.is_finite():
        raise Refusal(
            f"The meter event payload must have a numeric value for the key '{key}'.",
            code="meter_event_invalid_value",
            param="payload",
        )
    return value


def _require_new(identifier: str, meter: StripeObject) -> None:
    within = timezone.now() - UNIQUE_FOR
    known = MeterReading.objects.filter(meter_id=meter.id, identifier=identifier)
    if known.filter(received_at__gt=within).exists():
        raise Refusal(f"An event already exists with identifier {identifier}.")


def _record(
    meter: StripeObject, identifier: str, customer_id: str, value: Decimal, timestamp: int
) -> None:
    MeterReading.objects.create(
        identifier=identifier,
        meter_id=meter.id,
        customer_id=customer_id,
        value=value,
        timestamp=timestamp,
    )
    if not StripeObject.objects.of("customer").filter(id=customer_id).exists():
        _report(meter, identifier, f"No customer found for the identifier {customer_id}.")


def _report(meter: StripeObject, identifier: str, message: str) -> None:
    """Report an event that counts for no customer."""
    sample = {"error_message": message, "request": {"identifier": identifier}}
    error = {
        "code": "meter_event_customer_not_found",
        "error_count": 1,
        "sample_errors": [sample],
    }
    now = datetime.now(UTC)
    data = {
        "developer_message_summary": "There is 1 invalid event",
        "reason": {"error_count": 1, "error_types": [error]},
        "validation_end": iso(now),
        "validation_start": iso(now - timedelta(seconds=10)),
    }
    emit_thin("v1.billing.meter.error_report_triggered", meter, data)
