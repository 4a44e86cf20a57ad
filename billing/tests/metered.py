"""Accounts that pay for minutes, and calls that cost some: what tests of the meter begin with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone
from djstripe import models as mirror

from accounts.models import Account
from billing.models import MeterEvent, PlanPart, StripeCustomer
from core.ids import first_id_of, new_id
from usage.models import UsageRecord

METER = "mtr_1"
_numbers = count(1)


def seconds(at: datetime) -> int:
    return int(at.timestamp())


def subscription(
    *,
    id: str = "sub_1",
    begins: datetime | None = None,
    period: tuple[datetime, datetime] | None = None,
    anchor: datetime | None = None,
    meter: str = METER,
    **fields: Any,
) -> dict[str, Any]:
    """Stripe's JSON of a subscription, as far as the meter goes; by default it began a week ago."""
    now = timezone.now()
    start, end = period or (begins or now - timedelta(days=7), now + timedelta(days=23))
    begins = begins or start
    item = {
        "current_period_start": seconds(start),
        "current_period_end": seconds(end),
        "price": {"recurring": {"usage_type": "metered", "meter": meter}},
    }
    return {
        "id": id,
        "object": "subscription",
        "start_date": seconds(begins),
        "billing_cycle_anchor": seconds(anchor or begins),
        "ended_at": None,
        "cancel_at": None,
        "items": {"data": [{"price": {"recurring": {"usage_type": "licensed"}}}, item]},
        "latest_invoice": None,
    } | fields


def invoice(
    status: str,
    start: datetime,
    *,
    end: datetime | None = None,
    finalizes_at: datetime | None = None,
) -> Any:
    """Stripe's JSON of the invoice of a period."""
    return {
        "id": "in_1",
        "object": "invoice",
        "status": status,
        "period_start": seconds(start),
        "period_end": seconds(end or start + timedelta(days=30)),
        "automatically_finalizes_at": finalizes_at and seconds(finalizes_at),
    }


def set_up_meter() -> None:
    PlanPart.objects.create(name=PlanPart.Name.METER, stripe_id=METER)


def become_customer(
    account: Account, *subscriptions: dict[str, Any], id: str = "cus_1"
) -> StripeCustomer:
    """The account's customer and its subscriptions, as they are after a check of the status."""
    mirror.Customer.objects.create(id=id, livemode=False, stripe_data={})
    for each in subscriptions:
        add_subscription(id, each)
    return StripeCustomer.objects.create(account=account, customer_id=id)


def add_subscription(customer_id: str, subscription: dict[str, Any]) -> None:
    mirror.Subscription.objects.create(
        id=subscription["id"], livemode=False, customer_id=customer_id, stripe_data=subscription
    )


def call(
    account: Account,
    minutes: int = 1,
    *,
    ended_at: datetime | None = None,
    recorded_at: datetime | None = None,
) -> UsageRecord:
    """The record of a call that ended then, by default now, when it was also recorded."""
    ended_at = ended_at or timezone.now()
    id = new_id()
    if recorded_at:
        id = first_id_of(recorded_at) + id[9:]
    return UsageRecord.objects.create(
        id=id,
        account=account,
        call_sid=f"CA{next(_numbers):032x}",
        direction="inbound",
        caller_phone="+15550001111",
        called_number="+15551234567",
        duration_seconds=60 * minutes,
        minutes=minutes,
        platform_cost=0,
        twilio_cost=0,
        openai_cost=0,
        created_at=ended_at,
    )


def event(account: Account, minutes: int = 1, **fields: Any) -> MeterEvent:
    """The meter event of a call, written."""
    record = call(account, minutes, ended_at=fields.get("happened_at"))
    return MeterEvent.objects.create(
        identifier=record.call_sid,
        usage_record=record,
        account=account,
        minutes=minutes,
        **{"happened_at": record.created_at} | fields,
    )


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc]
