"""Stripe's webhooks. An event triggers a check of an account; its contents are not used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
import stripe
import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.metering.problems import error_report
from billing.models import PlanPart, StripeCustomer
from billing.status_checks import status_mark

log = structlog.get_logger(__name__)

# Events that may change an account's status. The endpoint in Stripe subscribes to these only.
EVENTS = (
    "checkout.session.async_payment_failed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.completed",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.paid",
    "invoice.payment_failed",
)
METER_EVENT = "v1.billing.meter.error_report_triggered"

_ID = re.compile(r"[A-Za-z0-9_]{1,255}")


@csrf_exempt
@require_POST
def events(request: HttpRequest) -> HttpResponse:
    """``POST /webhooks/stripe``: 200 for every event that Stripe signed, else 400."""
    event = _signed_by_stripe(request)
    if event is None:
        return HttpResponse(status=400)
    if event.type in EVENTS:
        account_id = _account_of(event.about)
        if account_id:
            status_mark(account_id=account_id, cause=f"{event.type} {event.id}")
        else:
            log.info("stripe_event_of_nobody", event_id=event.id, event_type=event.type)
    return HttpResponse()


@csrf_exempt
@require_POST
def meter_errors(request: HttpRequest) -> HttpResponse:
    """``POST /webhooks/stripe/meter``: error reports of the meter, as thin events."""
    event = _signed_by_stripe(request)
    if event is None:
        return HttpResponse(status=400)
    if event.type == METER_EVENT:
        error_report(event.id)
    return HttpResponse()


class Event(NamedTuple):
    """The parts of an event that are used. ``about`` is its object, or empty."""

    id: str
    type: str
    about: Mapping[str, Any]


def _signed_by_stripe(request: HttpRequest) -> Event | None:
    """Return the event if it was signed with a secret of ours within five minutes, else None."""
    if not _is_signed(request):
        log.warning("stripe_signature_wrong", path=request.path)
        return None
    event = _read(request.body)
    if event is None:
        log.warning("stripe_event_not_understood", path=request.path)
    return event


def _is_signed(request: HttpRequest) -> bool:
    header = request.headers.get("Stripe-Signature", "")
    if not header.isascii():  # Stripe's comparison fails on it
        return False
    for secret in webhook_secrets():
        with suppress(ValueError, stripe.SignatureVerificationError):
            return stripe.WebhookSignature.verify_header(
                request.body, header, secret, stripe.Webhook.DEFAULT_TOLERANCE
            )
    return False


def _read(body: bytes) -> Event | None:
    """Parse an event; return None if it is not one."""
    try:
        event = _object(orjson.loads(body))
    except orjson.JSONDecodeError:
        return None
    id, kind = event.get("id"), event.get("type")
    if not (_is_id(id) and isinstance(kind, str)):
        return None
    return Event(str(id), kind, _object(_object(event.get("data")).get("object")))


def _object(value: Any) -> Mapping[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def webhook_secrets() -> list[str]:
    """Return the secrets of our endpoints, from the settings and from ``setup_stripe``."""
    secrets = list(settings.STRIPE_WEBHOOK_SECRETS)
    for part in PlanPart.objects.exclude(sealed_secret=None):
        if secret := part.secret:
            secrets.append(secret)
        else:
            log.error("webhook_secret_cannot_be_unsealed", remedy="run manage.py setup_stripe")
    return secrets


def _account_of(thing: Mapping[str, Any]) -> str | None:
    """Return the account of an event's customer, looked up in our own table only."""
    customer = thing if thing.get("object") == "customer" else thing.get("customer")
    customer_id = customer.get("id") if isinstance(customer, dict) else customer
    if not _is_id(customer_id):
        return None
    return (
        StripeCustomer.objects.filter(customer_id=customer_id)
        .values_list("account_id", flat=True)
        .first()
    )


urlpatterns = [
    path("", events, name="stripe-events"),
    path("/meter", meter_errors, name="stripe-meter-errors"),
]
