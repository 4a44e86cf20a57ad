"""The SDK's HTTP client: what it refuses, and how it fails when configured to."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from sandbox.payments import steering, testing
from sandbox.payments.models import Fault
from sandbox.payments.transport import SandboxClient

pytestmark = pytest.mark.django_db


def test_the_settings_put_it_in_the_place_of_stripe() -> None:
    assert django_settings.STRIPE_SANDBOX
    assert isinstance(stripe.default_http_client, SandboxClient)


@pytest.mark.parametrize("key", ["sk_live_" + "x" * 24, "rk_live_" + "x" * 24])
def test_it_refuses_a_live_key(settings: Any, key: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="live") as refusal:
        stripe.Customer.create(api_key=key)
    assert key not in str(refusal.value)
    settings.STRIPE_SECRET_KEY = key
    with pytest.raises(ImproperlyConfigured, match="live"):
        SandboxClient()


def test_it_refuses_to_be_outside_the_sandbox(settings: Any) -> None:
    settings.SANDBOX = False
    with pytest.raises(ImproperlyConfigured, match="SANDBOX"):
        SandboxClient()


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_afterwards() -> None:
    stripe.Customer.create(name="Alice")
    assert connection.connection is None


def test_no_key_and_no_parameter_is_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="sandbox"):
        stripe.Customer.create(name="Alice")
    assert "/v1/customers" in caplog.text
    assert "Alice" not in caplog.text
    assert django_settings.STRIPE_SECRET_KEY not in caplog.text


class TestFaults:
    def test_unreachable(self) -> None:
        steering.fail(Fault.Kind.UNREACHABLE, times=1)
        with pytest.raises(stripe.APIConnectionError) as failure:
            stripe.Customer.create()
        assert failure.value.should_retry
        stripe.Customer.create()
        assert len(testing.customers()) == 1

    def test_the_answer_is_lost(self) -> None:
        steering.fail(Fault.Kind.LOST, times=1)
        with pytest.raises(stripe.APIConnectionError):
            stripe.Customer.create(idempotency_key="k1")
        again = stripe.Customer.create(idempotency_key="k1")
        assert again.last_response.headers["Idempotent-Replayed"] == "true"
        assert [each["id"] for each in testing.customers()] == [again.id]

    @pytest.mark.parametrize(
        ("kind", "error"),
        [(Fault.Kind.BROKEN, stripe.APIError), (Fault.Kind.BUSY, stripe.RateLimitError)],
    )
    def test_answered_with_an_error(self, kind: Fault.Kind, error: type[Exception]) -> None:
        steering.fail(kind)
        for _ in range(2):
            with pytest.raises(error):
                stripe.WebhookEndpoint.list()
        steering.reset()
        assert list(stripe.WebhookEndpoint.list()) == []

    def test_of_some_requests_alone(self) -> None:
        steering.fail(Fault.Kind.UNREACHABLE, method="POST", path="/v1/products")
        stripe.Customer.create()
        stripe.WebhookEndpoint.list()
        with pytest.raises(stripe.APIConnectionError):
            stripe.Product.create(name="Thing")

    def test_the_sdk_tries_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stripe, "max_network_retries", 1)
        monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)
        steering.fail(Fault.Kind.LOST, times=1)
        stripe.Customer.create()
        assert len(testing.customers()) == 1
