"""Events, which are written in the transaction of the change, and their recipients."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone

from core.queue.jobs import defer
from sandbox.payments.business import clock
from sandbox.payments.ids import new_id
from sandbox.payments.models import Delivery, DeliveryRule, StripeObject

TASK = "sandbox.payments.tasks.deliver_events"
EVERY = "*"


class Cause(NamedTuple):
    """The request that caused an event."""

    request_id: str | None = None
    idempotency_key: str | None = None


_NOBODYS = Cause()
cause: ContextVar[Cause] = ContextVar("cause", default=_NOBODYS)

_gathering: ContextVar[list[StripeObject] | None] = ContextVar("gathered events", default=None)
_ENDPOINT_KINDS = {"event": "webhook_endpoint", "v2.core.event": "v2.core.event_destination"}


@contextmanager
def gathered() -> Iterator[None]:
    """Write the events of this block at its end, and none if it fails.

    In a nested block, the outer one writes them.
    """
    outer = _gathering.get()
    if outer is not None:
        already = len(outer)
        try:
            yield
        except BaseException:
            del outer[already:]
            raise
        return
    events: list[StripeObject] = []
    token = _gathering.set(events)
    try:
        yield
    finally:
        _gathering.reset(token)
    if events:
        _write(events)


def emit(type: str, thing: StripeObject, previous: dict[str, Any] | None = None) -> None:
    """Record an event about an object."""
    data: dict[str, Any] = {"object": copy.deepcopy(thing.body)}
    if previous is not None:
        data["previous_attributes"] = previous
    reason = cause.get()
    body = {
        "id": new_id("event"),
        "object": "event",
        "api_version": settings.STRIPE_API_VERSION,
        "created": clock.now(thing.customer_id),
        "data": data,
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": reason.request_id, "idempotency_key": reason.idempotency_key},
        "type": type,
    }
    _gather(body, customer_id=thing.customer_id)


def emit_thin(type: str, meter: StripeObject, data: dict[str, Any]) -> None:
    """Record a meter's event in the v2 API, whose endpoints receive all but the data."""
    body = {
        "id": new_id("v2.core.event"),
        "object": "v2.core.event",
        "created": iso_now(),
        "context": None,
        "livemode": False,
        "reason": None,
        "related_object": {
            "id": meter.id,
            "type": meter.kind,
            "url": f"/v1/billing/meters/{meter.id}",
        },
        "type": type,
        "data": data,
    }
    _gather(body)


def _gather(body: dict[str, Any], *, customer_id: str = "") -> None:
    events = _gathering.get()
    if events is None:
        raise RuntimeError("Events are told of where things are changed: in objects.writing().")
    events.append(
        StripeObject(id=body["id"], kind=body["object"], customer_id=customer_id, body=body)
    )


def iso_now() -> str:
    return iso(datetime.now(UTC))


def iso(moment: datetime) -> str:
    """Return a time in the format of the v2 API."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write(events: list[StripeObject]) -> None:
    """Write events in order, with a delivery for each endpoint."""
    every = _endpoints()
    rules = DeliveryRule.objects.in_bulk() if every else {}
    addressed = [(event, _endpoints_for(event, every)) for event in events]
    for event, endpoints in addressed:
        if event.kind == "event":
            event.body["pending_webhooks"] = len(endpoints)
    StripeObject.objects.bulk_create(events)
    deliveries = [
        delivery
        for event, endpoints in addressed
        for endpoint in endpoints
        for delivery in _deliveries(event, endpoint, _rule_among(rules, event["type"]))
    ]
    Delivery.objects.bulk_create(deliveries)
    deliver_pending(deliveries)


def _endpoints() -> list[StripeObject]:
    kinds = list(_ENDPOINT_KINDS.values())
    enabled = StripeObject.objects.filter(kind__in=kinds, is_deleted=False, body__status="enabled")
    return list(enabled.order_by("serial"))


def _endpoints_for(event: StripeObject, endpoints: list[StripeObject]) -> list[StripeObject]:
    wanted = {EVERY, event["type"]}
    kind = _ENDPOINT_KINDS[event.kind]
    return [each for each in endpoints if each.kind == kind and wanted & {*each["enabled_events"]}]


def _deliveries(event: StripeObject, endpoint: StripeObject, rule: DeliveryRule) -> list[Delivery]:
    state = Delivery.State.HELD if rule.is_held else Delivery.State.PENDING
    if rule.copies == 0:
        state = Delivery.State.DROPPED
    due_at = timezone.now() + timedelta(seconds=rule.delay_s)
    return [
        Delivery(event=event, endpoint=endpoint, state=state, due_at=due_at)
        for _ in range(max(rule.copies, 1))
    ]


def rule_for(type: str) -> DeliveryRule:
    """Return the rule for events of the type: its own, the one for all types, or none."""
    return _rule_among(DeliveryRule.objects.in_bulk([type, EVERY]), type)


def _rule_among(rules: dict[str, DeliveryRule], type: str) -> DeliveryRule:
    return rules.get(type) or rules.get(EVERY) or DeliveryRule(event_type=EVERY)


def deliver_pending(deliveries: Iterable[Delivery]) -> None:
    """Have a worker send each delivery when it is due, once this transaction has committed.

    Each endpoint has its own jobs: one that does not respond does not delay the others.
    """
    now = timezone.now()
    pending = [each for each in deliveries if each.state == Delivery.State.PENDING]
    for endpoint, due_at in {(each.endpoint_id, each.due_at) for each in pending}:
        name = f"{TASK} {endpoint}"
        at = due_at if due_at > now else None
        only_one = name if at is None else f"{name} {at.isoformat()}"
        defer(TASK, at=at, only_one=only_one, lock=name, endpoint=endpoint)
