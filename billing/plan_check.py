"""Compares what Stripe has with what ``setup_stripe`` creates, without changing anything."""

from __future__ import annotations

from collections.abc import Iterator

import stripe

from billing import plan
from billing.models import PlanPart
from billing.provisioning import (
    WantedPrice,
    base_price,
    can_verify,
    destination_url,
    event_destinations,
    found_meter,
    found_price,
    meter_webhook_url,
    minute_price,
    webhook_endpoints,
    webhook_url,
)
from billing.stripe_api import is_missing
from billing.webhooks import EVENTS, METER_EVENT


def plan_problems() -> Iterator[str]:
    """Yield a sentence for everything that ``setup_stripe`` would create or change.

    Raises Stripe's errors. The first request tells whether the key is valid.
    """
    yield from _about_product(plan.PRODUCT_ID)
    yield from _about_product(plan.MINUTES_PRODUCT_ID)
    yield from _about_price(base_price())
    meter = found_meter()
    if meter is None:
        yield f"The meter {plan.METER_EVENT_NAME} is missing."
    else:
        yield from _about_price(minute_price(meter.id))
        yield from _about_part(PlanPart.Name.METER, meter.id)
    yield from _about_webhook(webhook_url())
    yield from _about_meter_webhook(meter_webhook_url())


def _about_product(product_id: str) -> Iterator[str]:
    try:
        is_active = stripe.Product.retrieve(product_id).active
    except stripe.InvalidRequestError as error:
        if not is_missing(error):
            raise
        yield f"The product {product_id} is missing."
        return
    if not is_active:
        yield f"The product {product_id} is archived."


def _about_price(wanted: WantedPrice) -> Iterator[str]:
    found = found_price(wanted)
    if found is None:
        yield f"There is no price with the lookup key {wanted.lookup_key}."
    elif not wanted.is_same(found):
        yield f"The price {found.id} differs from {wanted}."
    else:
        yield from _about_part(wanted.name, found.id)


def _about_part(name: PlanPart.Name, stripe_id: str) -> Iterator[str]:
    if not PlanPart.objects.filter(pk=name, stripe_id=stripe_id).exists():
        yield f"Switchhook is not set up to use the {name.label} {stripe_id}."


def _about_webhook(url: str) -> Iterator[str]:
    ours = [each for each in webhook_endpoints().values() if each.url == url]
    if not ours:
        yield f"There is no webhook endpoint for {url}."
        return
    endpoint = ours[0]
    if endpoint.status != "enabled":
        yield f"The webhook endpoint {endpoint.id} is {endpoint.status}."
    missing = set(EVENTS) - set(endpoint.enabled_events)
    if missing and "*" not in endpoint.enabled_events:
        yield f"The webhook endpoint {endpoint.id} does not send {', '.join(sorted(missing))}."
    if not can_verify(PlanPart.Name.WEBHOOK, endpoint.id):
        yield f"The signing secret of the webhook endpoint {endpoint.id} is unknown."


def _about_meter_webhook(url: str) -> Iterator[str]:
    ours = [each for each in event_destinations().values() if destination_url(each) == url]
    if not ours:
        yield f"There is no event destination for {url}."
        return
    destination = ours[0]
    if destination.status != "enabled":
        yield f"The event destination {destination.id} is {destination.status}."
    if METER_EVENT not in destination.enabled_events:
        yield f"The event destination {destination.id} does not send {METER_EVENT}."
    if not can_verify(PlanPart.Name.METER_WEBHOOK, destination.id):
        yield f"The signing secret of the event destination {destination.id} is unknown."
