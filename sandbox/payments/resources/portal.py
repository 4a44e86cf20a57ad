"""``/v1/billing_portal/configurations`` and ``/v1/billing_portal/sessions``"""

from __future__ import annotations

from typing import Any

from stripe.params.billing_portal import (
    ConfigurationCreateParams,
    ConfigurationListParams,
    ConfigurationRetrieveParams,
    ConfigurationUpdateParams,
    SessionCreateParams,
)

from sandbox.payments.addresses import page_url
from sandbox.payments.business import clock
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, create, find, merged
from sandbox.payments.wire.errors import Refusal
from sandbox.payments.wire.lists import page_of
from sandbox.payments.wire.requests import Params, endpoint

_KIND = "billing_portal.configuration"
_PLAIN = ("active", "default_return_url", "name")


@endpoint("POST /v1/billing_portal/configurations", ConfigurationCreateParams)
def create_configuration(params: Params) -> StripeObject:
    is_first = not StripeObject.objects.of(_KIND).exists()
    return create(
        _KIND,
        "billing_portal.configuration.created",
        active=True,
        application=None,
        business_profile=_BUSINESS_PROFILE | params.take("business_profile", {}),
        default_return_url=params.take("default_return_url"),
        features=_features(_FEATURES, params.take("features")),
        is_default=is_first,
        login_page={"enabled": False, "url": None} | params.take("login_page", {}),
        metadata=merged({}, params.take("metadata", {})),
        name=params.take("name"),
        updated=clock.real(),
    )


@endpoint("POST /v1/billing_portal/configurations/{id}", ConfigurationUpdateParams)
def update_configuration(params: Params, id: str) -> StripeObject:
    found = find(_KIND, id)
    changes = params.take_given(*_PLAIN)
    changes["features"] = _features(found["features"], params.take("features", {}))
    for name in ("business_profile", "login_page"):
        changes[name] = found[name] | params.take(name, {})
    if "metadata" in params:
        changes["metadata"] = merged(found["metadata"], params.take("metadata"))
    if changes.items() <= found.body.items():
        return found
    return change(found, "billing_portal.configuration.updated", **changes, updated=clock.real())


@endpoint("GET /v1/billing_portal/configurations/{id}", ConfigurationRetrieveParams)
def retrieve_configuration(params: Params, id: str) -> StripeObject:
    return find(_KIND, id)


@endpoint("GET /v1/billing_portal/configurations", ConfigurationListParams)
def list_configurations(params: Params) -> dict[str, Any]:
    given = params.take_given("active", "is_default")
    found = StripeObject.objects.of(_KIND)
    found = found.filter(**{f"body__{name}": value for name, value in given.items()})
    return page_of(params, found, "/v1/billing_portal/configurations")


@endpoint("POST /v1/billing_portal/sessions", SessionCreateParams)
def create_session(params: Params) -> StripeObject:
    customer = find("customer", params.take("customer", ""), "customer")
    configuration = _configuration(params.take("configuration"))
    id = new_id("billing_portal.session")
    return create(
        "billing_portal.session",
        "billing_portal.session.created",
        id=id,
        created=clock.real(),
        configuration=configuration.id,
        customer=customer.id,
        customer_account=None,
        flow=None,
        locale=params.take("locale"),
        on_behalf_of=None,
        return_url=params.take("return_url", configuration["default_return_url"]),
        url=page_url(f"portal/{id}"),
    )


def _configuration(id: str | None) -> StripeObject:
    if id:
        return find(_KIND, id, "configuration")
    default = StripeObject.objects.of(_KIND).filter(body__is_default=True).first()
    if default is None:
        raise Refusal(
            "No configuration provided and your test mode default configuration has not been "
            "created. Provide a configuration or create your default by saving your customer "
            "portal settings in test mode at "
            "https://dashboard.stripe.com/test/settings/billing/portal."
        )
    return default


def _features(features: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    return features | {name: features[name] | settings for name, settings in given.items()}


_BUSINESS_PROFILE: dict[str, Any] = {
    "headline": None,
    "privacy_policy_url": None,
    "terms_of_service_url": None,
}
_FEATURES: dict[str, Any] = {
    "customer_update": {"allowed_updates": [], "enabled": False},
    "invoice_history": {"enabled": False},
    "payment_method_update": {"enabled": False, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {"enabled": False, "options": []},
        "enabled": False,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_update": {
        "billing_cycle_anchor": None,
        "default_allowed_updates": [],
        "enabled": False,
        "products": None,
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}
