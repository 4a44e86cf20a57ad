"""Sends events to their endpoints, signed as Stripe signs them."""

from __future__ import annotations

import hmac
import json
import random
import time
from datetime import timedelta

import requests
import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from core.connections import give_connection_back
from sandbox.payments.events import EVERY, deliver_pending, rule_for
from sandbox.payments.models import Delivery, DeliveryRule, StripeObject
from sandbox.payments.objects import change, writing

log = structlog.get_logger(__name__)

# Seconds to connect, and to wait for the response.
_TIMEOUT = (3.05, 10.0)
# The delays after failed attempts. Stripe takes days; people who try the sandbox have minutes.
_RETRY_AFTER_S = (2, 10, 60, 600)
_ANSWERED = "HTTP "  # the prefix of an outcome with a response


def deliver_due(endpoint: int) -> None:
    """Send an endpoint what is due, in the order of the rule; nothing is locked meanwhile."""
    due = _pending(endpoint).filter(due_at__lte=timezone.now())
    deliveries = list(due.select_related("event", "endpoint").order_by("id"))
    for delivery in _arranged(deliveries, rule_for(EVERY)):
        send(delivery)
        if delivery.state == Delivery.State.FAILED and not delivery.outcome.startswith(_ANSWERED):
            disable(delivery.endpoint)
            return


def send(delivery: Delivery) -> bool:
    """Send an event once, and record the outcome; return True if the endpoint accepted it."""
    delivery.outcome, is_taken = _post(delivery.endpoint, delivery.event)
    delivery.attempts += 1
    if is_taken:
        delivery.state = Delivery.State.DELIVERED
        delivery.delivered_at = timezone.now()
    elif delivery.attempts > len(_RETRY_AFTER_S):
        delivery.state = Delivery.State.FAILED
    else:
        delivery.state = Delivery.State.PENDING
        wait = timedelta(seconds=_RETRY_AFTER_S[delivery.attempts - 1])
        delivery.due_at = timezone.now() + wait
    with transaction.atomic():
        delivery.save()
        deliver_pending([delivery])
    return is_taken


def disable(endpoint: StripeObject) -> None:
    """Disable an endpoint after its last failed attempt.

    It can be enabled again. Stripe takes days to disable one.
    """
    with writing():
        change(endpoint, status="disabled")
    give_up(endpoint)


def give_up(endpoint: StripeObject) -> None:
    """Give up what waits for a deleted endpoint."""
    _pending(endpoint.pk).update(state=Delivery.State.FAILED)


def _pending(endpoint: int) -> QuerySet[Delivery]:
    return Delivery.objects.filter(endpoint_id=endpoint, state=Delivery.State.PENDING)


def payload_of(event: StripeObject) -> bytes:
    """Return the event as the endpoint receives it: a thin event without its data."""
    body = dict(event.body)
    if event.kind == "v2.core.event":
        del body["data"]
    return json.dumps(body, indent=2).encode()


def signature_of(payload: bytes, secret: str) -> str:
    """Return the header ``Stripe-Signature``.

    https://docs.stripe.com/webhooks#verify-manually
    """
    now = int(time.time())
    signed = hmac.digest(secret.encode(), f"{now}.".encode() + payload, "sha256").hex()
    return f"t={now},v1={signed}"


def _post(endpoint: StripeObject, event: StripeObject) -> tuple[str, bool]:
    payload = payload_of(event)
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signature_of(payload, endpoint.hidden["secret"]),
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    give_connection_back()
    try:
        response = requests.post(
            endpoint["url"], payload, headers=headers, timeout=_TIMEOUT, allow_redirects=False
        )
    except requests.RequestException as error:
        return type(error).__name__, False
    is_taken = 200 <= response.status_code < 300
    log.info("sandbox_event", event_type=event["type"], status=response.status_code)
    return f"{_ANSWERED}{response.status_code}", is_taken


def _arranged(deliveries: list[Delivery], rule: DeliveryRule) -> list[Delivery]:
    match rule.order:
        case DeliveryRule.Order.NEWEST:
            return deliveries[::-1]
        case DeliveryRule.Order.SHUFFLED:
            return random.sample(deliveries, len(deliveries))
    return deliveries
