"""Webhook endpoints, event destinations and portal configurations."""

from __future__ import annotations

import pytest
import stripe
from django.conf import settings

from sandbox.payments import testing

pytestmark = pytest.mark.django_db


class TestWebhookEndpoints:
    def test_the_secret_is_told_once(self) -> None:
        made = stripe.WebhookEndpoint.create(
            url="https://shop.example.org/stripe",
            enabled_events=["invoice.paid"],
            api_version="2026-05-27.dahlia",
        )
        assert made.secret.startswith("whsec_")
        [found] = stripe.WebhookEndpoint.list()
        assert "secret" not in found
        assert (found.status, found.enabled_events) == ("enabled", ["invoice.paid"])
        assert stripe.WebhookEndpoint.delete(made.id).deleted
        assert list(stripe.WebhookEndpoint.list()) == []

    def test_update(self) -> None:
        made = stripe.WebhookEndpoint.create(url="https://a.example.org", enabled_events=["*"])
        changed = stripe.WebhookEndpoint.modify(
            made.id, url="https://b.example.org", enabled_events=["invoice.paid"], disabled=True
        )
        assert (changed.url, changed.status) == ("https://b.example.org", "disabled")

    def test_an_event_that_stripe_does_not_know(self) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            stripe.WebhookEndpoint.create(
                url="https://a.example.org",
                enabled_events=["invoice.eaten"],  # type: ignore[list-item]
            )
        assert refusal.value.param == "enabled_events[0]"

    @pytest.mark.parametrize("url", ["shop.example.org", "ftp://shop.example.org", "https://"])
    def test_an_address_that_is_none(self, url: str) -> None:
        with pytest.raises(stripe.InvalidRequestError, match="Invalid URL"):
            stripe.WebhookEndpoint.create(url=url, enabled_events=["*"])


class TestEventDestinations:
    @property
    def destinations(self) -> stripe.v2.core.EventDestinationService:
        client = stripe.StripeClient(
            settings.STRIPE_SECRET_KEY, http_client=stripe.default_http_client
        )
        return client.v2.core.event_destinations

    def create(self) -> stripe.v2.core.EventDestination:
        return self.destinations.create(
            {
                "name": "Errors",
                "type": "webhook_endpoint",
                "event_payload": "thin",
                "enabled_events": ["v1.billing.meter.error_report_triggered"],
                "webhook_endpoint": {"url": "https://shop.example.org/thin"},
                "include": ["webhook_endpoint.signing_secret"],
            }
        )

    def test_it_works(self) -> None:
        made = self.create()
        assert made.webhook_endpoint
        assert str(made.webhook_endpoint.signing_secret).startswith("whsec_")
        [found] = self.destinations.list({"include": ["webhook_endpoint.url"]}).auto_paging_iter()
        assert found.webhook_endpoint
        assert (found.id, found.webhook_endpoint.url) == (made.id, "https://shop.example.org/thin")
        [found] = self.destinations.list().auto_paging_iter()
        assert found.webhook_endpoint is None

    def test_changed_and_deleted(self) -> None:
        id = self.create().id
        self.destinations.update(id, {"webhook_endpoint": {"url": "https://b.example.org"}})
        [found] = self.destinations.list({"include": ["webhook_endpoint.url"]}).auto_paging_iter()
        assert found.webhook_endpoint
        assert found.webhook_endpoint.url == "https://b.example.org"
        assert self.destinations.enable(id).status == "enabled"
        assert self.destinations.delete(id).id == id
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            self.destinations.enable(id)
        assert (refusal.value.http_status, refusal.value.code) == (404, "not_found")

    def test_what_the_second_api_does_not_know(self) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            self.destinations.create({"name": "Errors", "colour": "red"})  # type: ignore
        assert refusal.value.code == "parameter_unknown"


class TestPortal:
    def configure(self, **features: object) -> stripe.billing_portal.Configuration:
        return stripe.billing_portal.Configuration.create(
            features={"invoice_history": {"enabled": True}, **features},
            business_profile={"headline": "Ours"},
            metadata={"ours": "1"},
        )

    def test_it_works(self, customer: str) -> None:
        made = self.configure(subscription_cancel={"enabled": True})
        assert made.features.subscription_cancel.mode == "at_period_end"
        assert made.features.payment_method_update.enabled is False
        session = stripe.billing_portal.Session.create(
            customer=customer, configuration=made.id, return_url="https://shop.example.org"
        )
        assert session.url.endswith(f"/sandbox/payments/portal/{session.id}")

    def test_an_update_of_nothing_is_no_event(self) -> None:
        made = self.configure()
        stripe.billing_portal.Configuration.modify(
            made.id, features={"invoice_history": {"enabled": True}}
        )
        assert testing.event_types() == ["billing_portal.configuration.created"]
        changed = stripe.billing_portal.Configuration.modify(
            made.id, features={"invoice_history": {"enabled": False}}
        )
        assert changed.metadata["ours"] == "1"
        [found] = stripe.billing_portal.Configuration.list(active=True)
        assert (found.id, found.features.invoice_history.enabled) == (made.id, False)
