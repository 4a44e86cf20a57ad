"""Meters, meter events, their sums, and the reports of invalid ones."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.conf import settings
from django.utils import timezone

from sandbox.payments import steering, testing
from sandbox.payments.models import MeterReading
from sandbox.tests.payments.conftest import Shop
from sandbox.tests.payments.receiver import Receiver

pytestmark = pytest.mark.django_db

DAY = 86_400


def send(**params: Any) -> stripe.billing.MeterEvent:
    return stripe.billing.MeterEvent.create(**{"event_name": "minutes"} | params)


def client() -> stripe.StripeClient:
    """Return a client for the v2 API."""
    return stripe.StripeClient(settings.STRIPE_SECRET_KEY, http_client=stripe.default_http_client)


def summed(shop: Shop, customer: str, start: int, end: int) -> list[float]:
    summaries = stripe.billing.Meter.list_event_summaries(
        shop.meter, customer=customer, start_time=start, end_time=end
    )
    return [summary.aggregated_value for summary in summaries.auto_paging_iter()]


def test_it_works(shop: Shop, customer: str) -> None:
    now = int(time.time())
    event = send(identifier="CA1", payload={"stripe_customer_id": customer, "value": "3"})
    assert event.object == "billing.meter_event"
    assert event.identifier == "CA1"
    assert event.payload.to_dict() == {"stripe_customer_id": customer, "value": "3"}
    assert abs(event.timestamp - now) <= 1
    shop.use(customer, 4, "CA2")
    shop.use("cus_somebody_else", 40, "CA3")
    minute = now // 60 * 60
    assert summed(shop, customer, minute - 60, minute + 120) == [7.0]


def test_from_start_to_before_end(shop: Shop, customer: str) -> None:
    start = int(time.time()) // DAY * DAY - 2 * DAY
    shop.use(customer, 1, "before", timestamp=start - 1)
    shop.use(customer, 2, "first", timestamp=start)
    shop.use(customer, 4, "last", timestamp=start + DAY - 1)
    shop.use(customer, 8, "after", timestamp=start + DAY)
    assert summed(shop, customer, start, start + DAY) == [6.0]


def test_times_that_are_not_aligned_are_refused(shop: Shop, customer: str) -> None:
    minute = int(time.time()) // 60 * 60 + 1
    with pytest.raises(stripe.InvalidRequestError, match="aligned"):
        summed(shop, customer, minute, minute + 3600)


def test_the_same_identifier_within_a_day_is_refused(shop: Shop, customer: str) -> None:
    shop.use(customer, 3, "CA1")
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.use(customer, 3, "CA1")
    assert refusal.value.user_message == "An event already exists with identifier CA1."
    assert refusal.value.headers["stripe-should-retry"] == "false"
    assert testing.meter_events(customer) == [("CA1", 3)]


def test_the_same_identifier_a_day_later_counts_again(shop: Shop, customer: str) -> None:
    shop.use(customer, 3, "CA1")
    MeterReading.objects.update(received_at=timezone.now() - timedelta(hours=24, seconds=1))
    shop.use(customer, 3, "CA1")
    assert testing.meter_events(customer) == [("CA1", 3), ("CA1", 3)]


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(-35 * DAY - 10, "timestamp_too_far_in_past"), (310, "timestamp_in_future")],
)
def test_times_that_are_too_far_away_are_refused(
    shop: Shop, customer: str, seconds: int, code: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="35 calendar days") as refusal:
        shop.use(customer, 1, "CA1", timestamp=int(time.time()) + seconds)
    assert (refusal.value.code, refusal.value.param) == (code, "timestamp")


@pytest.mark.parametrize("seconds", [-35 * DAY + 60, 290])
def test_times_that_are_near_enough(shop: Shop, customer: str, seconds: int) -> None:
    shop.use(customer, 1, "CA1", timestamp=int(time.time()) + seconds)
    assert testing.meter_events(customer) == [("CA1", 1)]


def test_on_the_clock_of_the_customer_too(shop: Shop, customer: str) -> None:
    testing.turn(customer, days=60)
    then = int(time.time()) + 60 * DAY
    shop.use(customer, 1, "then", timestamp=then)
    shop.use(customer, 1, "now", timestamp=int(time.time()))
    with pytest.raises(stripe.InvalidRequestError):
        shop.use(customer, 1, "later", timestamp=then + 400)


@pytest.mark.parametrize("value", ["", "many", "nan", None])
def test_a_value_that_is_none_is_refused(shop: Shop, customer: str, value: str | None) -> None:
    payload = {"stripe_customer_id": customer} | ({} if value is None else {"value": value})
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        send(payload=payload)
    assert refusal.value.param == "payload"


def test_a_meter_of_the_same_events_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        stripe.billing.Meter.create(
            display_name="M", event_name="minutes", default_aggregation={"formula": "sum"}
        )
    assert [meter.id for meter in stripe.billing.Meter.list(status="active")] == [shop.meter]


class TestErrorReports:
    """Errors that Stripe reports later: it accepts the event, and sends a thin event about it."""

    @pytest.fixture
    def secret(self, shop: Shop, receiver: Receiver) -> str:
        made = client().v2.core.event_destinations.create(
            {
                "name": "Errors",
                "type": "webhook_endpoint",
                "event_payload": "thin",
                "enabled_events": ["v1.billing.meter.error_report_triggered"],
                "webhook_endpoint": {"url": receiver.url},
                "include": ["webhook_endpoint.signing_secret"],
            }
        )
        assert made.webhook_endpoint
        return str(made.webhook_endpoint.signing_secret)

    def test_of_an_unknown_customer(self, shop: Shop, receiver: Receiver, secret: str) -> None:
        shop.use("cus_gone", 3, "CA1")
        steering.deliver()
        [(body, signature)] = receiver.received
        notification = client().parse_event_notification(body, signature, secret)
        assert notification.type == "v1.billing.meter.error_report_triggered"
        assert notification.related_object.id == shop.meter
        assert "data" not in json.loads(body)
        event = notification.fetch_event()
        assert event.data.developer_message_summary == "There is 1 invalid event"
        [error] = event.data.reason.error_types
        assert error.code == "meter_event_customer_not_found"
        assert error.sample_errors[0]["request"].identifier == "CA1"
