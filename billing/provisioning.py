"""Creates or updates products, prices, the meter, the portal and webhooks in Stripe.

Each step finds the object of an earlier run by its id, lookup key, event name or URL, and changes
only what differs, so it can run again at any time. An object that cannot be changed, such as a
price, is replaced; subscriptions keep the price that they began with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import stripe
from django.conf import settings
from django.urls import reverse
from djstripe import models as mirror
from stripe.v2.core import EventDestination

from billing import plan
from billing.models import PlanPart
from billing.stripe_api import asking, client, is_missing
from billing.webhooks import EVENTS, METER_EVENT
from core.sealing import seal

Say = Callable[[str], None]

_PORTAL = {"switchhook": "portal"}
"""The metadata that identifies our portal configuration."""


def plan_set_up(say: Say) -> None:
    """Run all steps and report each in a line; raise 502 and Stripe's errors."""
    with asking():
        _product(say, plan.PRODUCT_ID, plan.PRODUCT_NAME)
        _price(say, base_price())
        meter_id = _meter(say)
        _product(say, plan.MINUTES_PRODUCT_ID, plan.MINUTES_PRODUCT_NAME)
        _price(say, minute_price(meter_id))
        _portal(say)
        if settings.PUBLIC_URL.startswith("https://") or settings.STRIPE_SANDBOX:
            _webhook(say, webhook_url())
            _meter_webhook(say, meter_webhook_url())
        else:
            say(
                f"No webhooks: Stripe can't reach {settings.PUBLIC_URL}. Forward events with "
                "stripe listen, and set STRIPE_WEBHOOK_SECRET to the secret that it prints."
            )


def _product(say: Say, product_id: str, name: str) -> None:
    try:
        product = stripe.Product.retrieve(product_id)
    except stripe.InvalidRequestError as error:
        if not is_missing(error):
            raise
        product = stripe.Product.create(id=product_id, name=name)
        say(f"Created the product {product.id}.")
    else:
        if not product.active:
            product = stripe.Product.modify(product.id, active=True)
        say(f"Found the product {product.id}.")
    mirror.Product.sync_from_stripe_data(product)


@dataclass(frozen=True)
class WantedPrice:
    """A price as Stripe should have it. ``recurring`` is part of the request that creates it."""

    name: PlanPart.Name
    product_id: str
    lookup_key: str
    cents: Decimal
    recurring: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the {self.name.label}, {plan.to_dollars(self.cents)} {plan.CURRENCY.upper()}"

    def is_same(self, price: stripe.Price) -> bool:
        return (
            price.product == self.product_id
            and price.currency == plan.CURRENCY
            and price.unit_amount_decimal is not None
            and Decimal(price.unit_amount_decimal) == self.cents
            and price.recurring is not None
            and all(
                getattr(price.recurring, key, None) == value
                for key, value in self.recurring.items()
            )
        )


def base_price() -> WantedPrice:
    return WantedPrice(
        PlanPart.Name.BASE_PRICE,
        plan.PRODUCT_ID,
        plan.BASE_LOOKUP_KEY,
        plan.base_cents(),
        {"interval": "month", "usage_type": "licensed"},
    )


def minute_price(meter_id: str) -> WantedPrice:
    return WantedPrice(
        PlanPart.Name.MINUTE_PRICE,
        plan.MINUTES_PRODUCT_ID,
        plan.MINUTE_LOOKUP_KEY,
        plan.minute_cents(),
        {"interval": "month", "usage_type": "metered", "meter": meter_id},
    )


def webhook_url() -> str:
    return str(settings.PUBLIC_URL + reverse("stripe-events"))


def meter_webhook_url() -> str:
    return str(settings.PUBLIC_URL + reverse("stripe-meter-errors"))


def found_price(wanted: WantedPrice) -> stripe.Price | None:
    """Return the active price with the lookup key, which may differ from what is wanted."""
    return next(iter(stripe.Price.list(lookup_keys=[wanted.lookup_key], active=True).data), None)


def found_meter() -> stripe.billing.Meter | None:
    meters = stripe.billing.Meter.list(status="active", limit=100).auto_paging_iter()
    return next((meter for meter in meters if meter.event_name == plan.METER_EVENT_NAME), None)


def webhook_endpoints() -> dict[str, stripe.WebhookEndpoint]:
    """Return the endpoints for events by their ids, whoever they belong to."""
    return {each.id: each for each in stripe.WebhookEndpoint.list(limit=100).auto_paging_iter()}


def event_destinations() -> dict[str, EventDestination]:
    """Return the endpoints for thin events by their ids, whoever they belong to."""
    destinations = client().v2.core.event_destinations
    every = destinations.list({"include": ["webhook_endpoint.url"]}).auto_paging_iter()
    return {each.id: each for each in every}


def destination_url(destination: EventDestination) -> str | None:
    return destination.webhook_endpoint.url if destination.webhook_endpoint else None


def _price(say: Say, wanted: WantedPrice) -> None:
    found = found_price(wanted)
    if found and wanted.is_same(found):
        price = found
        say(f"Found {wanted}: {price.id}.")
    else:
        price = stripe.Price.create(
            product=wanted.product_id,
            currency=plan.CURRENCY,
            unit_amount_decimal=wanted.cents,
            recurring=dict(wanted.recurring),  # type: ignore[arg-type]  # a TypedDict
            lookup_key=wanted.lookup_key,
            transfer_lookup_key=True,
        )
        say(f"Created {wanted}: {price.id}." + (f" It replaces {found.id}." if found else ""))
    mirror.Price.sync_from_stripe_data(price)
    _keep(wanted.name, price.id, cents=wanted.cents)


def _meter(say: Say) -> str:
    meter = found_meter()
    if meter:
        say(f"Found the meter {meter.id}.")
    else:
        meter = stripe.billing.Meter.create(
            display_name="Minutes",
            event_name=plan.METER_EVENT_NAME,
            default_aggregation={"formula": "sum"},
            customer_mapping={"type": "by_id", "event_payload_key": "stripe_customer_id"},
            value_settings={"event_payload_key": "value"},
        )
        say(f"Created the meter {meter.id}.")
    _keep(PlanPart.Name.METER, meter.id)
    return meter.id


def _portal(say: Say) -> None:
    wanted: Any = {
        "business_profile": {"headline": "Switchhook: subscription, card and invoices"},
        "features": {
            "customer_update": {"enabled": True, "allowed_updates": ["address", "tax_id"]},
            "invoice_history": {"enabled": True},
            "payment_method_update": {"enabled": True},
            # At the end of the paid period; the last invoice has the minutes until then.
            "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
        },
        "metadata": _PORTAL,
    }
    every = stripe.billing_portal.Configuration.list(active=True, limit=100).auto_paging_iter()
    if found := next((each for each in every if _is_ours(each)), None):
        stripe.billing_portal.Configuration.modify(found.id, **wanted)
        say(f"Updated the portal configuration {found.id}.")
    else:
        found = stripe.billing_portal.Configuration.create(**wanted)
        say(f"Created the portal configuration {found.id}.")
    _keep(PlanPart.Name.PORTAL, found.id)


def _is_ours(configuration: stripe.billing_portal.Configuration) -> bool:
    metadata = configuration.metadata
    return metadata is not None and metadata.to_dict().items() >= _PORTAL.items()


def _webhook(say: Say, url: str) -> None:
    enabled_events: Any = list(EVENTS)
    version: Any = settings.STRIPE_API_VERSION
    urls = {stripe_id: each.url for stripe_id, each in webhook_endpoints().items()}
    found = _found(PlanPart.Name.WEBHOOK, urls, url)
    if found and can_verify(PlanPart.Name.WEBHOOK, found):
        stripe.WebhookEndpoint.modify(found, url=url, enabled_events=enabled_events, disabled=False)
        say(f"Updated the webhook endpoint {found}: {url}.")
        _keep(PlanPart.Name.WEBHOOK, found)
        return
    if found:
        stripe.WebhookEndpoint.delete(found)
    made = stripe.WebhookEndpoint.create(
        url=url, enabled_events=enabled_events, api_version=version
    )
    _say_made(say, "webhook endpoint", made.id, url, instead_of=found)
    _keep(PlanPart.Name.WEBHOOK, made.id, secret=made.secret)


def _meter_webhook(say: Say, url: str) -> None:
    """Set up the endpoint for the meter's error reports, which are thin events."""
    destinations = client().v2.core.event_destinations
    known = event_destinations()
    urls = {stripe_id: destination_url(each) for stripe_id, each in known.items()}
    found = _found(PlanPart.Name.METER_WEBHOOK, urls, url)
    if found and can_verify(PlanPart.Name.METER_WEBHOOK, found):
        if urls[found] != url:
            destinations.update(found, {"webhook_endpoint": {"url": url}})
        if known[found].status == "disabled":
            destinations.enable(found)
        say(f"Updated the event destination {found}: {url}.")
        return
    if found:
        destinations.delete(found)
    made = destinations.create(
        {
            "name": "Errors of the Switchhook meter",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": [METER_EVENT],
            "webhook_endpoint": {"url": url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    secret = made.webhook_endpoint.signing_secret if made.webhook_endpoint else None
    _say_made(say, "event destination", made.id, url, instead_of=found)
    _keep(PlanPart.Name.METER_WEBHOOK, made.id, secret=secret)


def _found(name: PlanPart.Name, urls: Mapping[str, str | None], url: str) -> str | None:
    """Return the id of the endpoint with the URL, or of ours if the URL has changed.

    ``urls`` has the URLs of all endpoints in Stripe by their ids.
    """
    here = next((stripe_id for stripe_id, at in urls.items() if at == url), None)
    ours = PlanPart.objects.filter(pk=name, stripe_id__in=urls)
    return here or ours.values_list("stripe_id", flat=True).first()


def can_verify(name: PlanPart.Name, stripe_id: str) -> bool:
    """Return True if we have the secret of an endpoint, which Stripe only shows on creation."""
    kept = PlanPart.objects.filter(pk=name, stripe_id=stripe_id).first()
    return bool(settings.STRIPE_WEBHOOK_SECRETS or (kept and kept.secret))


def _say_made(say: Say, what: str, made_id: str, url: str, *, instead_of: str | None) -> None:
    why = f" It replaces {instead_of}, whose secret is unknown." if instead_of else ""
    say(f"Created the {what} {made_id}: {url}. Its secret is stored encrypted.{why}")


def _keep(
    name: PlanPart.Name, stripe_id: str, *, cents: Decimal | None = None, secret: str | None = None
) -> None:
    values: dict[str, Any] = {"stripe_id": stripe_id, "cents": cents}
    if secret:
        values["sealed_secret"] = seal(secret.encode(), purpose=PlanPart.PURPOSE)
    PlanPart.objects.update_or_create(name=name, defaults=values)
