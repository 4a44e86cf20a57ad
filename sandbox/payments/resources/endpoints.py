"""``/v1/webhook_endpoints`` and ``/v2/core/event_destinations``: the recipients of events."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from stripe.params import (
    WebhookEndpointCreateParams,
    WebhookEndpointDeleteParams,
    WebhookEndpointListParams,
    WebhookEndpointUpdateParams,
)
from stripe.params.v2.core import (
    EventDestinationCreateParams,
    EventDestinationDeleteParams,
    EventDestinationEnableParams,
    EventDestinationListParams,
    EventDestinationUpdateParams,
)

from sandbox.payments.delivery import give_up
from sandbox.payments.events import iso_now
from sandbox.payments.ids import random_text
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, create, find
from sandbox.payments.wire.errors import Refusal, missing_parameter, not_simulated
from sandbox.payments.wire.lists import page_of, whole_v2_list
from sandbox.payments.wire.requests import Params, endpoint

_DESTINATION = "v2.core.event_destination"


@endpoint("POST /v1/webhook_endpoints", WebhookEndpointCreateParams)
def create_endpoint(params: Params) -> dict[str, Any]:
    """Only this response contains the secret."""
    secret = _new_secret()
    made = create(
        "webhook_endpoint",
        hidden={"secret": secret},
        api_version=params.take("api_version"),
        enabled_events=params.take("enabled_events"),
        url=_checked_url(params.take("url")),
    )
    return made.body | {"secret": secret}


@endpoint("POST /v1/webhook_endpoints/{id}", WebhookEndpointUpdateParams)
def update_endpoint(params: Params, id: str) -> StripeObject:
    changes = params.take_given("enabled_events")
    if url := params.take("url"):
        changes["url"] = _checked_url(url)
    if "disabled" in params:
        changes["status"] = "disabled" if params.take("disabled") else "enabled"
    return change(find("webhook_endpoint", id), **changes)


@endpoint("DELETE /v1/webhook_endpoints/{id}", WebhookEndpointDeleteParams)
def delete_endpoint(params: Params, id: str) -> dict[str, Any]:
    return _delete(find("webhook_endpoint", id))


@endpoint("GET /v1/webhook_endpoints", WebhookEndpointListParams)
def list_endpoints(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("webhook_endpoint")
    return page_of(params, found, "/v1/webhook_endpoints")


@endpoint("POST /v2/core/event_destinations", EventDestinationCreateParams)
def create_destination(params: Params) -> dict[str, Any]:
    for name, only in (("type", "webhook_endpoint"), ("event_payload", "thin")):
        if params.take(name) != only:
            raise not_simulated(f"event destinations of another {name} than {only}", param=name)
    webhook = params.take("webhook_endpoint")
    if webhook is None:
        raise missing_parameter("webhook_endpoint")
    now = iso_now()
    made = create(
        _DESTINATION,
        hidden={"secret": _new_secret()},
        created=now,
        enabled_events=params.take("enabled_events"),
        name=params.take("name"),
        updated=now,
        url=_checked_url(webhook["url"]),
    )
    return _shown(made, params.take("include", []))


@endpoint("POST /v2/core/event_destinations/{id}", EventDestinationUpdateParams)
def update_destination(params: Params, id: str) -> dict[str, Any]:
    found = _destination(id)
    webhook = params.take("webhook_endpoint", {})
    url = _checked_url(webhook.get("url", found["url"]))
    return _shown(change(found, updated=iso_now(), url=url))


@endpoint("POST /v2/core/event_destinations/{id}/enable", EventDestinationEnableParams)
def enable_destination(params: Params, id: str) -> dict[str, Any]:
    return _shown(change(_destination(id), status="enabled", updated=iso_now()))


@endpoint("DELETE /v2/core/event_destinations/{id}", EventDestinationDeleteParams)
def delete_destination(params: Params, id: str) -> dict[str, Any]:
    return _delete(_destination(id))


@endpoint("GET /v2/core/event_destinations", EventDestinationListParams)
def list_destinations(params: Params) -> dict[str, Any]:
    include = params.take("include", [])
    found = StripeObject.objects.of(_DESTINATION).order_by("-serial")
    return whole_v2_list([_shown(each, include) for each in found])


def _destination(id: str) -> StripeObject:
    found = StripeObject.objects.of(_DESTINATION).filter(id=id).first()
    if found is None:
        raise Refusal(f"No such event destination: '{id}'", status=404, code="not_found")
    return found


def _shown(destination: StripeObject, include: list[str] | None = None) -> dict[str, Any]:
    """Return the destination with the requested fields of its webhook endpoint."""
    body = dict(destination.body)
    known = {"url": body.pop("url"), "signing_secret": destination.hidden["secret"]}
    asked = {name: known[name] for name in known if f"webhook_endpoint.{name}" in (include or [])}
    return body | {"webhook_endpoint": asked or None}


def _delete(endpoint: StripeObject) -> dict[str, Any]:
    endpoint.is_deleted = True
    endpoint.save(update_fields=["is_deleted"])
    give_up(endpoint)
    return {"id": endpoint.id, "object": endpoint.kind, "deleted": True}


def _new_secret() -> str:
    return f"whsec_{random_text(32)}"


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refusal(
            "Invalid URL: An explicit scheme (such as https) must be provided.",
            code="url_invalid",
            param="url",
        )
    return url
