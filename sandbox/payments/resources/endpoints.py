"""``/v1/webhook_endpoints`` and ``/v2/core/event_destinations``: where events go."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from stripe.params import (
    WebhookEndpointCreateParams,
    WebhookEndpointDeleteParams,
    WebhookEndpointListParams,
    WebhookEndpointRetrieveParams,
    WebhookEndpointUpdateParams,
)
from stripe.params.v2.core import (
    EventDestinationCreateParams,
    EventDestinationDeleteParams,
    EventDestinationDisableParams,
    EventDestinationEnableParams,
    EventDestinationListParams,
    EventDestinationRetrieveParams,
    EventDestinationUpdateParams,
)

from sandbox.payments.delivery import give_up
from sandbox.payments.events import iso_now
from sandbox.payments.ids import random_text
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, create, find, merged
from sandbox.payments.wire.errors import Refusal, missing_parameter, not_simulated
from sandbox.payments.wire.lists import page_of, whole_v2_list
from sandbox.payments.wire.requests import Params, endpoint

_DESTINATION = "v2.core.event_destination"


@endpoint("POST /v1/webhook_endpoints", WebhookEndpointCreateParams)
def create_endpoint(params: Params) -> dict[str, Any]:
    """The secret is told this once."""
    if params.take("connect", False):
        raise not_simulated("events of connected accounts", param="connect")
    secret = _new_secret()
    made = create(
        "webhook_endpoint",
        hidden={"secret": secret},
        api_version=params.take("api_version"),
        application=None,
        description=params.take("description"),
        enabled_events=params.take("enabled_events"),
        metadata=merged({}, params.take("metadata", {})),
        status="enabled",
        url=_checked_url(params.take("url")),
    )
    return made.body | {"secret": secret}


@endpoint("POST /v1/webhook_endpoints/{id}", WebhookEndpointUpdateParams)
def update_endpoint(params: Params, id: str) -> StripeObject:
    found = find("webhook_endpoint", id)
    changes = params.take_given("description", "enabled_events")
    if url := params.take("url"):
        changes["url"] = _checked_url(url)
    if "disabled" in params:
        changes["status"] = "disabled" if params.take("disabled") else "enabled"
    if "metadata" in params:
        changes["metadata"] = merged(found["metadata"], params.take("metadata"))
    return change(found, **changes)


@endpoint("GET /v1/webhook_endpoints/{id}", WebhookEndpointRetrieveParams)
def retrieve_endpoint(params: Params, id: str) -> StripeObject:
    return find("webhook_endpoint", id)


@endpoint("DELETE /v1/webhook_endpoints/{id}", WebhookEndpointDeleteParams)
def delete_endpoint(params: Params, id: str) -> dict[str, Any]:
    return _delete(find("webhook_endpoint", id))


@endpoint("GET /v1/webhook_endpoints", WebhookEndpointListParams)
def list_endpoints(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("webhook_endpoint")
    return page_of(params, found, "/v1/webhook_endpoints")


@endpoint("POST /v2/core/event_destinations", EventDestinationCreateParams)
def create_destination(params: Params) -> dict[str, Any]:
    if params.take("type") != "webhook_endpoint":
        raise not_simulated("event destinations other than webhook endpoints", param="type")
    if params.take("event_payload") != "thin":
        raise not_simulated("snapshot events of event destinations", param="event_payload")
    webhook = params.take("webhook_endpoint")
    if webhook is None:
        raise missing_parameter("webhook_endpoint")
    now = iso_now()
    made = create(
        _DESTINATION,
        hidden={"secret": _new_secret()},
        created=now,
        description=params.take("description", ""),
        enabled_events=params.take("enabled_events"),
        event_payload="thin",
        events_from=params.take("events_from", ["@self"]),
        metadata=params.take("metadata", {}),
        name=params.take("name"),
        snapshot_api_version=None,
        status="enabled",
        status_details=None,
        type="webhook_endpoint",
        updated=now,
        url=_checked_url(webhook["url"]),
    )
    return _shown(made, params)


@endpoint("POST /v2/core/event_destinations/{id}", EventDestinationUpdateParams)
def update_destination(params: Params, id: str) -> dict[str, Any]:
    found = _destination(id)
    changes = params.take_given("description", "enabled_events", "name")
    if webhook := params.take("webhook_endpoint"):
        changes["url"] = _checked_url(webhook["url"])
    if "metadata" in params:
        changes["metadata"] = merged(found["metadata"], params.take("metadata"))
    return _shown(change(found, updated=iso_now(), **changes), params)


@endpoint("GET /v2/core/event_destinations/{id}", EventDestinationRetrieveParams)
def retrieve_destination(params: Params, id: str) -> dict[str, Any]:
    return _shown(_destination(id), params)


@endpoint("POST /v2/core/event_destinations/{id}/disable", EventDestinationDisableParams)
def disable_destination(params: Params, id: str) -> dict[str, Any]:
    return _shown(change(_destination(id), status="disabled", updated=iso_now()), params)


@endpoint("POST /v2/core/event_destinations/{id}/enable", EventDestinationEnableParams)
def enable_destination(params: Params, id: str) -> dict[str, Any]:
    return _shown(change(_destination(id), status="enabled", updated=iso_now()), params)


@endpoint("DELETE /v2/core/event_destinations/{id}", EventDestinationDeleteParams)
def delete_destination(params: Params, id: str) -> dict[str, Any]:
    return _delete(_destination(id))


@endpoint("GET /v2/core/event_destinations", EventDestinationListParams)
def list_destinations(params: Params) -> dict[str, Any]:
    params.ignore("limit")
    include = params.take("include", [])
    found = StripeObject.objects.of(_DESTINATION).order_by("-serial")
    return whole_v2_list([_shown(each, Params(include=include)) for each in found])


def _destination(id: str) -> StripeObject:
    found = StripeObject.objects.of(_DESTINATION).filter(id=id).first()
    if found is None:
        raise Refusal(f"No such event destination: '{id}'", status=404, code="not_found")
    return found


def _shown(destination: StripeObject, params: Params) -> dict[str, Any]:
    """Return the destination with what of its webhook endpoint was asked for."""
    body = dict(destination.body)
    known = {"url": body.pop("url"), "signing_secret": destination.hidden["secret"]}
    include = params.take("include", [])
    asked = {name: known[name] for name in known if f"webhook_endpoint.{name}" in include}
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
