"""``/v1/billing_portal/configurations`` and ``/v1/billing_portal/sessions``"""

from __future__ import annotations

from typing import Any

from stripe.params.billing_portal import (
    ConfigurationCreateParams,
    ConfigurationListParams,
    ConfigurationUpdateParams,
    SessionCreateParams,
)

from sandbox.payments.addresses import page_url
from sandbox.payments.bodies import blank
from sandbox.payments.business import clock
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, create, find, merged
from sandbox.payments.wire.lists import page_of
from sandbox.payments.wire.requests import Params, endpoint

_KIND = "billing_portal.configuration"


@endpoint("POST /v1/billing_portal/configurations", ConfigurationCreateParams)
def create_configuration(params: Params) -> StripeObject:
    return create(
        _KIND,
        "billing_portal.configuration.created",
        is_default=not StripeObject.objects.of(_KIND).exists(),
        updated=clock.real(),
        **_settings(blank(_KIND), params),
    )


@endpoint("POST /v1/billing_portal/configurations/{id}", ConfigurationUpdateParams)
def update_configuration(params: Params, id: str) -> StripeObject:
    found = find(_KIND, id)
    changes = _settings(found.body, params)
    if changes.items() <= found.body.items():
        return found
    return change(found, "billing_portal.configuration.updated", **changes, updated=clock.real())


@endpoint("GET /v1/billing_portal/configurations", ConfigurationListParams)
def list_configurations(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of(_KIND).having(params.take_given("active"))
    return page_of(params, found, "/v1/billing_portal/configurations")


@endpoint("POST /v1/billing_portal/sessions", SessionCreateParams)
def create_session(params: Params) -> StripeObject:
    customer = find("customer", params.take("customer", ""), "customer")
    configuration = find(_KIND, params.take("configuration", ""), "configuration")
    id = new_id("billing_portal.session")
    return create(
        "billing_portal.session",
        "billing_portal.session.created",
        id=id,
        created=clock.real(),
        configuration=configuration.id,
        customer=customer.id,
        return_url=params.take("return_url", configuration["default_return_url"]),
        url=page_url(f"portal/{id}"),
    )


def _settings(before: dict[str, Any], params: Params) -> dict[str, Any]:
    """Return a configuration updated with the request."""
    features = before["features"]
    changed = {name: features[name] | given for name, given in params.take("features", {}).items()}
    return {
        "business_profile": before["business_profile"] | params.take("business_profile", {}),
        "features": features | changed,
        "metadata": merged(before["metadata"], params.take("metadata", {})),
    }
