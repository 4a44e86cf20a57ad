"""Paying in a real browser: as wide as a phone, with the keyboard alone, and without a script."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from playwright.sync_api import Browser

from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, PHONE
from sandbox.payments import testing
from sandbox.tests.payments.browser import without_scripts
from sandbox.tests.payments.conftest import open_shop

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
]


def test_from_checkout_to_the_end(live_server: Any, settings: Any, chromium: Browser) -> None:
    settings.PUBLIC_URL = live_server.url
    features = {
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"enabled": True},
    }
    portal = stripe.billing_portal.Configuration.create(features=features)
    shop = open_shop()
    customer = stripe.Customer.create(email="alice@example.org", name="Alice").id
    page = shop.checkout(customer, success_url=f"{live_server.url}/sandbox/payments/").url

    with without_scripts(chromium, PHONE) as browser:
        browser.open(str(page))
        assert browser.style(".banner", "text-align") == "center"  # the style sheet is there
        assert not browser.is_too_wide
        browser.type("[name=number]", "4000 0000 0000 0002")
        browser.press_enter("[name=cvc]")
        assert "Your card was declined." in browser.html

        browser.type("[name=number]", "4242 4242 4242 4242")
        browser.press_enter("button")
        assert browser.url == f"{live_server.url}/sandbox/payments/"
        assert testing.subscription_of(customer)["status"] == "active"

        browser.open(f"{live_server.url}/sandbox/payments/customers/{customer}")
        browser.press_enter("[value=renewal]")
        assert not browser.is_too_wide
        assert len(testing.invoices_of(customer)) == 2

        browser.open(
            stripe.billing_portal.Session.create(customer=customer, configuration=portal.id).url
        )
        assert not browser.is_too_wide
        browser.press_enter("a.danger")
        browser.press_enter("button.danger")
        assert "Your subscription was cancelled." in browser.html
        assert testing.subscription_of(customer)["cancel_at_period_end"] is True
