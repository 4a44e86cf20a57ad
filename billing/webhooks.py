"""What Stripe tells us. An event puts an account's status in doubt; nothing in it is believed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
import stripe
import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.meter_problems import error_report
from billing.models import PlanPart, StripeCustomer
from billing.status_checks import status_mark
from config.sealing import CannotUnseal, unseal

log = structlog.get_logger(__name__)

# Those after which an account's status may be another. The endpoint at Stripe asks for these alone.
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


@csrf_exempt
@require_POST
def events(request: HttpRequest) -> HttpResponse:
    """``POST /webhooks/stripe``: 200 to every event that Stripe has signed, 400 to all else."""
    event = _signed_by_stripe(request)
    if event is None:
        return HttpResponse(status=400)
    if event["type"] in EVENTS:
        account_id = _account_of(event["data"]["object"])
        if account_id:
            status_mark(account_id=account_id, cause=f"{event['type']} {event['id']}")
        else:
            log.info("stripe_event_of_nobody", event_id=event["id"], event_type=event["type"])
    return HttpResponse()


@csrf_exempt
@require_POST
def meter_errors(request: HttpRequest) -> HttpResponse:
    """``POST /webhooks/stripe/meter``: what was wrong with our meter events, in a thin event."""
    event = _signed_by_stripe(request)
    if event is None:
        return HttpResponse(status=400)
    if event["type"] == METER_EVENT:
        error_report(event)
    return HttpResponse()


def _signed_by_stripe(request: HttpRequest) -> dict[str, Any] | None:
    """Return the event, if one of our endpoints' secrets has signed it within five minutes."""
    header = request.headers.get("Stripe-Signature")
    for secret in webhook_secrets():
        with suppress(ValueError, stripe.SignatureVerificationError):
            stripe.WebhookSignature.verify_header(
                request.body, header, secret, stripe.Webhook.DEFAULT_TOLERANCE
            )
            return dict(orjson.loads(request.body))
    log.warning("stripe_signature_wrong", path=request.path)
    return None


def webhook_secrets() -> list[str]:
    """Return the secrets of our endpoints: those that are set, those that ``setup_stripe`` made."""
    secrets = list(settings.STRIPE_WEBHOOK_SECRETS)
    for part in PlanPart.objects.exclude(sealed_secret=None):
        try:
            secret = unseal(part.sealed_secret or b"", purpose=PlanPart.PURPOSE)
        except CannotUnseal:
            log.error("webhook_secret_cannot_be_unsealed", remedy="run manage.py setup_stripe")
        else:
            secrets.append(secret.decode())
    return secrets


def _account_of(thing: dict[str, Any]) -> str | None:
    """Return the id of the account whose customer an event is about, by our own table alone."""
    customer = thing if thing.get("object") == "customer" else thing.get("customer")
    customer_id = customer["id"] if isinstance(customer, dict) else customer
    return (
        StripeCustomer.objects.filter(customer_id=customer_id)
        .values_list("account_id", flat=True)
        .first()
    )


urlpatterns = [
    path("", events, name="stripe-events"),
    path("/meter", meter_errors, name="stripe-meter-errors"),
]
