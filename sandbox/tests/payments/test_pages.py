"""Checkout, portal and invoices as a customer uses them, with forms and links alone."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
import stripe
from django.test import Client

from sandbox.payments import testing
from sandbox.payments.models import StripeObject
from sandbox.payments.templatetags.stripe_text import day
from sandbox.tests.payments.conftest import Shop

pytestmark = pytest.mark.django_db

GOOD = {"number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123"}
DECLINED = GOOD | {"number": "4000 0000 0000 0002"}


def path(url: str) -> str:
    """Return the path of a URL from the API."""
    return re.sub(r"^https?://[^/]+", "", url)


def text_of(response: Any) -> str:
    """Return the text of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


class TestCheckout:
    @pytest.fixture
    def page(self, shop: Shop, customer: str) -> str:
        return path(str(shop.checkout(customer).url))

    def test_it_works(self, client: Client, page: str, customer: str) -> None:
        offer = text_of(client.get(page))
        assert "Subscribe to Switchhook" in offer
        assert "$0.05 each" in offer
        assert "Pay $5.00 and subscribe" in offer
        assert "no money moves" in offer
        assert "4000 0000 0000 0341 is taken, and declined each time" in offer
        paid = client.post(page, GOOD)
        session_id = page.rpartition("/")[2]
        assert paid.status_code == 302
        assert paid["Location"] == f"https://shop.example.org/paid?session={session_id}"
        assert testing.subscription_of(customer)["status"] == "active"

    def test_a_declined_card_can_be_replaced(
        self, client: Client, page: str, customer: str
    ) -> None:
        declined = client.post(page, DECLINED)
        assert declined.status_code == 402
        assert "Your card was declined." in text_of(declined)
        assert 'role="alert"' in declined.content.decode()
        assert client.post(page, GOOD).status_code == 302
        assert testing.subscription_of(customer)["status"] == "active"

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"number": "4111 1111 1111 1111"}, "Your card number is incorrect."),
            ({"expiry": "13 / 34"}, "expiration date is incomplete"),
            ({"expiry": "01 / 26"}, "expiration date is in the past"),
            ({"cvc": "1"}, "security code is incomplete"),
            ({"number": ""}, "This field is required."),
        ],
    )
    def test_what_cannot_be_a_card(
        self, client: Client, page: str, fields: dict[str, str], message: str
    ) -> None:
        refused = client.post(page, GOOD | fields)
        assert refused.status_code == 400
        assert message in text_of(refused)
        assert 'aria-invalid="true"' in refused.content.decode()
        assert testing.event_types()[-1] != "checkout.session.completed"

    def test_pay_later(self, client: Client, page: str) -> None:
        shown = client.get(page).content.decode()
        assert 'href="https://shop.example.org/left"' in shown
        assert client.get(page).status_code == 200

    def test_already_paid(self, client: Client, page: str) -> None:
        client.post(page, GOOD)
        for again in (client.get(page), client.post(page, GOOD)):
            assert again.status_code == 200
            assert "This has been paid" in text_of(again)
        assert len(StripeObject.objects.of("subscription")) == 1

    def test_expired(self, client: Client, page: str) -> None:
        testing.expire(page)
        for late in (client.get(page), client.post(page, GOOD)):
            assert late.status_code == 410
            assert "This page has expired" in text_of(late)
        assert not StripeObject.objects.of("subscription").exists()

    def test_expired_while_it_was_open(self, client: Client, page: str, customer: str) -> None:
        testing.start_clock(customer, days=1.01)
        assert client.post(page, GOOD).status_code == 410

    def test_unknown(self, client: Client) -> None:
        assert client.get("/sandbox/payments/checkout/cs_test_none").status_code == 404

    def test_a_form_of_another_site_is_refused(self, page: str) -> None:
        assert Client(enforce_csrf_checks=True).post(page, GOOD).status_code == 403


class TestPortal:
    @pytest.fixture
    def features(self) -> dict[str, Any]:
        return {
            "invoice_history": {"enabled": True},
            "payment_method_update": {"enabled": True},
            "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
        }

    @pytest.fixture
    def page(self, subscribed: str, features: dict[str, Any]) -> str:
        return self.open(subscribed, features)

    def open(self, customer: str, features: dict[str, Any]) -> str:
        configuration = stripe.billing_portal.Configuration.create(features=features)
        session = stripe.billing_portal.Session.create(
            customer=customer, configuration=configuration.id, return_url="https://x.example.org"
        )
        return path(session.url)

    def test_it_works(self, client: Client, shop: Shop, subscribed: str, page: str) -> None:
        shop.use(subscribed, 7, "CA1")
        shown = text_of(client.get(page))
        assert "Alice's Plumbing · alice@example.org" in shown
        assert "active" in shown
        assert "7 \N{MULTIPLICATION SIGN} Switchhook (at $0.05 / month) $0.35" in shown
        assert "4242" in shown
        assert testing.invoices_of(subscribed)[0]["number"] in shown

    def test_of_who_is_named_as_their_address(
        self, client: Client, customer: str, features: dict[str, Any]
    ) -> None:
        stripe.Customer.modify(customer, name="alice@example.org")
        page = self.open(customer, features)
        assert text_of(client.get(page)).count("alice@example.org") == 1

    def test_cancelled_and_resumed(self, client: Client, subscribed: str, page: str) -> None:
        assert "Cancel the subscription?" in text_of(client.get(f"{page}/cancel"))
        assert testing.subscription_of(subscribed)["cancel_at"] is None
        done = client.post(f"{page}/cancel", follow=True)
        end = day(testing.subscription_of(subscribed)["cancel_at"])
        assert f"Your subscription was cancelled. It goes on until {end}." in text_of(done)
        assert testing.subscription_of(subscribed)["cancel_at_period_end"] is True
        assert "Your subscription goes on." in text_of(client.post(f"{page}/resume", follow=True))
        assert testing.subscription_of(subscribed)["cancel_at"] is None

    def test_cancelled_at_once(
        self, client: Client, subscribed: str, features: dict[str, Any]
    ) -> None:
        features["subscription_cancel"]["mode"] = "immediately"
        page = self.open(subscribed, features)
        shown = text_of(client.post(f"{page}/cancel", follow=True))
        assert "Your subscription was cancelled. Go back" in shown
        assert "canceled" in shown
        assert "Resume" not in shown
        assert testing.subscription_of(subscribed)["status"] == "canceled"
        assert client.post(f"{page}/cancel").status_code == 409

    def test_another_card(self, client: Client, subscribed: str, page: str) -> None:
        assert client.post(f"{page}/card", DECLINED).status_code == 402
        assert client.post(f"{page}/card", GOOD | {"cvc": ""}).status_code == 400
        mastercard = GOOD | {"number": "5555 5555 5555 4444"}
        assert "4444" in text_of(client.post(f"{page}/card", mastercard, follow=True))
        customer = stripe.Customer.retrieve(
            subscribed, expand=["invoice_settings.default_payment_method"]
        )
        method = customer.invoice_settings.default_payment_method
        assert method.card.last4 == "4444"
        assert testing.subscription_of(subscribed)["default_payment_method"] == method.id

    def test_what_is_due_can_be_paid(self, client: Client, subscribed: str, page: str) -> None:
        testing.steer(subscribed, next_charge="generic_decline")
        testing.turn_to_renewal(subscribed)
        shown = client.get(page)
        assert "$5.00 could not be charged." in text_of(shown)
        invoice = testing.invoices_of(subscribed)[-1]
        assert f'href="{invoice["hosted_invoice_url"]}"' in shown.content.decode()

    def test_what_the_configuration_does_not_offer(self, client: Client, subscribed: str) -> None:
        page = self.open(subscribed, {"invoice_history": {"enabled": False}})
        shown = text_of(client.get(page))
        assert "Cancel the subscription" not in shown
        assert "Invoices" not in shown
        assert client.post(f"{page}/cancel").status_code == 409
        assert client.post(f"{page}/card", GOOD).status_code == 409
        assert testing.subscription_of(subscribed)["cancel_at"] is None

    def test_of_who_has_nothing(
        self, client: Client, customer: str, features: dict[str, Any]
    ) -> None:
        page = self.open(customer, features)
        shown = text_of(client.get(page))
        assert "There is no subscription." in shown
        assert "There are no invoices yet." in shown
        assert "There is no card." in shown
        assert client.post(f"{page}/resume").status_code == 409

    def test_it_expires(self, client: Client, page: str) -> None:
        session = StripeObject.objects.of("billing_portal.session").get()
        session.body["created"] -= 3601
        session.save()
        late = client.get(page)
        assert late.status_code == 410
        assert 'href="https://x.example.org"' in late.content.decode()
        assert client.post(f"{page}/cancel").status_code == 410

    def test_unknown(self, client: Client) -> None:
        assert client.get("/sandbox/payments/portal/bps_none").status_code == 404


class TestInvoice:
    @pytest.fixture
    def invoice(self, subscribed: str) -> dict[str, Any]:
        """An invoice that could not be charged."""
        testing.steer(subscribed, next_charge="generic_decline")
        testing.turn_to_renewal(subscribed)
        return testing.invoices_of(subscribed)[-1]

    @pytest.fixture
    def page(self, invoice: dict[str, Any]) -> str:
        return path(invoice["hosted_invoice_url"])

    def test_it_works(
        self, client: Client, subscribed: str, invoice: dict[str, Any], page: str
    ) -> None:
        shown = text_of(client.get(page))
        assert f"Invoice {invoice['number']}" in shown
        assert "Pay $5.00" in shown
        paid = text_of(client.post(page, {"with": "kept"}, follow=True))
        assert "Thank you. The invoice is paid." in paid
        assert testing.invoices_of(subscribed)[-1]["status"] == "paid"
        assert testing.subscription_of(subscribed)["status"] == "active"

    def test_with_another_card(self, client: Client, subscribed: str, page: str) -> None:
        declined = client.post(page, GOOD | {"number": testing.LATER_DECLINED_CARD})
        assert declined.status_code == 402
        assert "Your card was declined." in text_of(declined)
        assert testing.invoices_of(subscribed)[-1]["attempt_count"] == 2
        assert client.post(page, GOOD | {"expiry": "soon"}).status_code == 400
        assert client.post(page, GOOD).status_code == 302
        assert testing.subscription_of(subscribed)["status"] == "active"

    def test_paid(self, client: Client, subscribed: str) -> None:
        paid = testing.invoices_of(subscribed)[0]
        page = path(paid["hosted_invoice_url"])
        assert "Nothing more is due." in text_of(client.get(page))
        client.post(page, GOOD)
        assert testing.invoices_of(subscribed)[0]["attempt_count"] == 1

    def test_a_draft_is_not_shown(self, client: Client, subscribed: str) -> None:
        end = testing.subscription_of(subscribed)["items"]["data"][0]["current_period_end"]
        testing.turn(subscribed, to=end)
        draft = testing.invoices_of(subscribed)[-1]["id"]
        assert client.get(f"/sandbox/payments/invoices/{draft}").status_code == 404
