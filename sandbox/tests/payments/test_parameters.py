"""Parameters are checked against the SDK's own types, and refused in Stripe's words."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.payments.wire.parameters import parameter_names
from sandbox.payments.wire.requests import endpoints

pytestmark = pytest.mark.django_db


def refused(**params: Any) -> stripe.InvalidRequestError:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Price.create(**{"currency": "usd", "product": "x", "unit_amount": 5} | params)
    assert refusal.value.http_status == 400
    assert refusal.value.request_id.startswith("req_")
    return refusal.value


def test_unknown() -> None:
    error = refused(colour="red")
    assert error.user_message == "Received unknown parameter: colour"
    assert (error.code, error.param) == ("parameter_unknown", "colour")


def test_unknown_below_another() -> None:
    error = refused(recurring={"interval": "month", "colour": "red"})
    assert (error.code, error.param) == ("parameter_unknown", "recurring[colour]")


def test_missing() -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Price.create(product="x")
    assert refusal.value.user_message == "Missing required param: currency."
    assert (refusal.value.code, refusal.value.param) == ("parameter_missing", "currency")


def test_missing_below_another() -> None:
    assert refused(recurring={"interval_count": 1}).param == "recurring[interval]"


@pytest.mark.parametrize(
    ("params", "message", "param"),
    [
        ({"unit_amount": "five"}, "Invalid integer: five", "unit_amount"),
        ({"unit_amount": "²"}, "Invalid integer: ²", "unit_amount"),
        ({"active": "perhaps"}, "Invalid boolean: perhaps", "active"),
        ({"unit_amount_decimal": "many"}, "Invalid decimal: many", "unit_amount_decimal"),
        ({"unit_amount_decimal": "NaN"}, "Invalid decimal: NaN", "unit_amount_decimal"),
        ({"recurring": "monthly"}, "Invalid object: monthly", "recurring"),
        ({"expand": "product"}, "Invalid array: product", "expand"),
        (
            {"recurring": {"interval": "decade"}},
            "Invalid recurring[interval]: must be one of day, month, week, or year",
            "recurring[interval]",
        ),
        (
            {"billing_scheme": "free"},
            "Invalid billing_scheme: must be per_unit or tiered",
            "billing_scheme",
        ),
    ],
)
def test_of_the_wrong_type(params: dict[str, Any], message: str, param: str) -> None:
    error = refused(**params)
    assert (error.user_message, error.param) == (message, param)


def test_empty() -> None:
    error = refused(nickname="")
    assert error.code == "parameter_invalid_empty"
    assert "'nickname' cannot be unset" in str(error)


def test_an_empty_one_unsets_where_the_type_says_so(customer: str) -> None:
    stripe.Customer.modify(customer, metadata={"a": "b"})
    assert stripe.Customer.modify(customer, metadata="").metadata.to_dict() == {}


def test_what_is_not_simulated_says_so(customer: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="sandbox does not simulate") as refusal:
        stripe.Customer.modify(customer, balance=100)
    assert refusal.value.param == "balance"
    assert stripe.Customer.retrieve(customer).balance == 0


def test_unknown_address() -> None:
    with pytest.raises(stripe.InvalidRequestError, match=r"GET: /v1/coupons") as refusal:
        stripe.Coupon.list()
    assert refusal.value.http_status == 404


def test_unknown_object() -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Customer.retrieve("cus_nobody")
    error = refusal.value
    assert error.user_message == "No such customer: 'cus_nobody'"
    assert (error.http_status, error.code, error.param) == (404, "resource_missing", "id")


def test_unknown_object_in_a_parameter() -> None:
    error = refused(product="prod_none")
    assert error.user_message == "No such product: 'prod_none'"
    assert (error.code, error.param) == ("resource_missing", "product")


@pytest.mark.parametrize("key", ["sk_test_somebody_elses", ""])
def test_a_key_that_is_not_ours(key: str) -> None:
    with pytest.raises(stripe.AuthenticationError) as refusal:
        stripe.WebhookEndpoint.list(api_key=key or " ")
    assert refusal.value.http_status == 401
    assert key not in str(refusal.value) or not key


def test_the_sdk_types_every_endpoint() -> None:
    """Every type can be parsed, so that a new version of the SDK breaks no request."""
    for endpoint in endpoints():
        assert "api_key" not in parameter_names(endpoint.params), endpoint.path
