"""Events: what happened, written in the transaction in which it happened, and whom they go to."""

from __future__ import annotations

import copy
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone

from config.jobs import defer
from sandbox.payments.business import clock
from sandbox.payments.ids import new_id
from sandbox.payments.models import Delivery, DeliveryRule, StripeObject

TASK = "sandbox.payments.tasks.deliver_events"
EVERY = "*"


class Cause(NamedTuple):
    """The request that an event came of."""

    request_id: str | None = None
    idempotency_key: str | None = None


_NOBODYS = Cause()
cause: ContextVar[Cause] = ContextVar("cause", default=_NOBODYS)


def emit(type: str, thing: StripeObject, previous: dict[str, Any] | None = None) -> StripeObject:
    """Write that something happened to an object, for all endpoints that want to know."""
    data: dict[str, Any] = {"object": copy.deepcopy(thing.body)}
    if previous is not None:
        data["previous_attributes"] = previous
    endpoints = _endpoints_for("webhook_endpoint", type)
    reason = cause.get()
    id = new_id("event")
    body = {
        "id": id,
        "object": "event",
        "api_version": settings.STRIPE_API_VERSION,
        "created": clock.now(thing.customer_id),
        "data": data,
        "livemode": False,
        "pending_webhooks": len(endpoints),
        "request": {"id": reason.request_id, "idempotency_key": reason.idempotency_key},
        "type": type,
    }
    event = StripeObject.objects.create(
        id=id, kind="event", customer_id=thing.customer_id, body=body
    )
    _send(event, endpoints)
    return event


def emit_thin(type: str, related: StripeObject | None, data: dict[str, Any]) -> StripeObject:
    """Write an event of the second API, of which an endpoint gets everything but the data."""
    id = new_id("v2.core.event")
    body = {
        "id": id,
        "object": "v2.core.event",
        "created": iso_now(),
        "context": None,
        "livemode": False,
        "reason": None,
        "related_object": _reference(related),
        "type": type,
        "data": data,
    }
    event = StripeObject.objects.create(id=id, kind="v2.core.event", body=body)
    _send(event, _endpoints_for("v2.core.event_destination", type))
    return event


def iso_now() -> str:
    return iso(datetime.now(UTC))


def iso(moment: datetime) -> str:
    """Return a time as the second API writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _reference(thing: StripeObject | None) -> dict[str, str] | None:
    if thing is None:
        return None
    return {"id": thing.id, "type": thing.kind, "url": f"/v1/billing/meters/{thing.id}"}


def _endpoints_for(kind: str, type: str) -> list[StripeObject]:
    endpoints = StripeObject.objects.of(kind).filter(body__status="enabled").order_by("serial")
    return [each for each in endpoints if {EVERY, type} & set(each["enabled_events"])]


def _send(event: StripeObject, endpoints: list[StripeObject]) -> None:
    if not endpoints:
        return
    rule = rule_for(event["type"])
    due_at = timezone.now() + timedelta(seconds=rule.delay_s)
    state = Delivery.State.HELD if rule.is_held else Delivery.State.PENDING
    if rule.copies == 0:
        state = Delivery.State.DROPPED
    Delivery.objects.bulk_create(
        Delivery(event=event, endpoint=endpoint, state=state, due_at=due_at)
        for endpoint in endpoints
        for _ in range(max(rule.copies, 1))
    )
    if state == Delivery.State.PENDING:
        deliver_soon(due_at if rule.delay_s else None)


def rule_for(type: str) -> DeliveryRule:
    """Return what is to become of events of the type: its own rule, the one for all, or none."""
    rules = DeliveryRule.objects.in_bulk([type, EVERY])
    return rules.get(type) or rules.get(EVERY) or DeliveryRule(event_type=EVERY)


def deliver_soon(at: datetime | None = None) -> None:
    """Have a worker deliver what is due once this transaction has committed, or at a time."""
    defer(TASK, at=at, only_one=TASK if at is None else f"{TASK} {at.isoformat()}")
