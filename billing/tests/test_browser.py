"""A customer's whole way, walked in a real browser past processes that really run.

``bin/dev`` runs all of them: the server, which has the sandbox's pages of Stripe's as well, a
worker that delivers Stripe's events over HTTP and then asks Stripe, and the telephone network. The
test does nothing but look at pages, type, and send requests.
"""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Browser

from billing.tests.walker import Walker
from core.tests.long import only_in_all
from devtools.browsing.chromium import DESKTOP, EXECUTABLE, IS_MISSING, PHONE
from devtools.tests.development import Development
from sandbox.tests.payments.browser import KeyboardPage, without_scripts

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
    only_in_all("a whole product and a browser"),
]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_customers_whole_way(
    running: Development, chromium: Browser, size: tuple[int, int]
) -> None:
    width, _ = size
    you = Walker(running, email=f"{width}@company.example", number=f"+1555123{width:04}")
    assert you.status == "INACTIVE"
    assert you.place_call() == "402 payment_required"

    with without_scripts(chromium, size) as browser:
        _is_declined(browser, you)
        clicked = time.monotonic()
        _pays(browser)
        after_the_page = you.becomes("ACTIVE")
        after_the_click = time.monotonic() - clicked
        seconds = f"{after_the_page:.2f} s after the page, {after_the_click:.2f} s after the click"
        print(f"\nACTIVE at {width} px: {seconds}")  # noqa: T201 (it is to be read)
        you.register_number()
        assert (you.place_call(), you.take_call()) == ("connected", "connected")

        _has_the_renewal_declined(browser, running, you)
        you.becomes("SUSPENDED")
        assert (you.place_call(), you.take_call()) == ("403 account_suspended", "rejected")

        _pays_what_is_due(browser, you)
        you.becomes("ACTIVE")
        assert (you.place_call(), you.take_call()) == ("connected", "connected")

        _cancels(browser, you)
        assert you.status == "ACTIVE"  # until the end of what is paid for
        _turns_to_the_end(browser, running, you)
        you.becomes("INACTIVE")
        assert (you.place_call(), you.take_call()) == ("402 payment_required", "rejected")


def _is_declined(browser: KeyboardPage, you: Walker) -> None:
    browser.open(you.checkout_url)
    _sees(browser, "Subscribe to", "$5.00", you.email)
    browser.type("[name=number]", "4000 0000 0000 0002")
    browser.press_enter("button")
    _sees(browser, "Your card was declined.")
    assert you.status == "INACTIVE"


def _pays(browser: KeyboardPage) -> None:
    browser.type("[name=number]", "4242 4242 4242 4242")
    browser.press_enter("button")
    _sees(browser, "Payment received")


def _has_the_renewal_declined(browser: KeyboardPage, running: Development, you: Walker) -> None:
    _open_control(browser, running, you)
    browser.choose("[name=next_charge]", "Your card was")
    browser.press_enter("form[action$=steer] button")
    _sees(browser, "Saved.")
    browser.press_enter("[value=renewal]")
    _sees(browser, 'class="badge past_due"')


def _pays_what_is_due(browser: KeyboardPage, you: Walker) -> None:
    portal = you.open_portal()
    browser.open(portal)
    _sees(browser, "could not be charged", 'class="badge past_due"')
    browser.press_enter("a[href$=card]")
    _sees(browser, "Use another card")
    browser.type("[name=number]", "5555 5555 5555 4444")
    browser.press_enter("[name=cvc]")
    _sees(browser, "Your card was saved.", "•••• 4444")
    browser.press_enter(".notice a")
    # With the calls' minutes, if the worker had reported them by the renewal, or without.
    _sees(browser, "Pay $5.", "•••• 4444")
    browser.press_enter("[value=kept]")
    _sees(browser, "The invoice is paid.")


def _cancels(browser: KeyboardPage, you: Walker) -> None:
    browser.open(you.open_portal())
    browser.press_enter("a.danger")
    _sees(browser, "Cancel the subscription?")
    browser.press_enter("button.danger")
    _sees(browser, "Your subscription was cancelled.", "Ends")


def _turns_to_the_end(browser: KeyboardPage, running: Development, you: Walker) -> None:
    _open_control(browser, running, you)
    browser.press_enter("[value=renewal]")
    _sees(browser, 'class="badge canceled"')


def _open_control(browser: KeyboardPage, running: Development, you: Walker) -> None:
    browser.open(f"{running.url}/sandbox/payments/")
    browser.press_enter(".rows a")
    _sees(browser, you.email, "Clock")


def _sees(browser: KeyboardPage, *texts: str) -> None:
    """All of it is on the page, and nobody has to scroll to the right."""
    html = browser.html
    for text in texts:
        assert text in html, html
    assert not browser.is_too_wide
