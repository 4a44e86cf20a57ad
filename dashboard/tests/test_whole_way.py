"""From signing up to the invoice, in a real browser, without touching the API.

Everything runs as processes of its own; the caller's microphone beeps once a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, Watch, context_of
from devtools.tests.development import Development

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
]

NUMBER = "+12025550142"
_WITHIN_MS = 20_000


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = context_of(chromium)
    context.set_default_timeout(_WITHIN_MS)
    yield context.new_page()
    context.close()


def test_from_sign_up_to_the_invoice(running: Development, page: Page) -> None:
    watch = Watch(page, allowed="nothing")
    _sign_up_and_pay(running, page)
    _make_a_key(running, page)
    _register_a_number(running, page)
    _talk(running, page)
    _look_at_the_call(page)
    _look_at_the_invoice(running, page)
    assert watch.problems == []


def _sign_up_and_pay(running: Development, page: Page) -> None:
    page.goto(f"{running.url}/signup")
    page.get_by_label("Email").fill("erin@example.org")
    page.get_by_label("Password").fill("a long walk in the rain")
    page.get_by_label("Company").fill("Erin's Eels")
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("button", name=re.compile(r"Pay \$5.00")).click()
    expect(page.get_by_role("heading", name="Payment received")).to_be_visible()
    page.goto(f"{running.url}/dashboard/billing")
    _reload_until(page, "ACTIVE")


def _make_a_key(running: Development, page: Page) -> None:
    page.goto(f"{running.url}/dashboard/keys")
    page.get_by_label("Label").fill("My backend")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#new-key")).to_have_text(re.compile("^rtk_[0-9A-Za-z]{38}$"))


def _register_a_number(running: Development, page: Page) -> None:
    backend = f"{running.sandbox_url}/backend/calls"
    page.goto(f"{running.url}/dashboard/numbers")
    page.locator('a[href="/dashboard/numbers/new"]').first.click()
    page.locator("[name=phone_number]").fill(NUMBER)
    page.locator("[name=on_call_start_url]").fill(f"{backend}/start")
    page.locator("[name=on_call_end_url]").fill(f"{backend}/end")
    page.locator("[name=on_error_url]").fill(f"{backend}/error")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_text(NUMBER).first).to_be_visible()


def _talk(running: Development, page: Page) -> None:
    """Sound goes both ways; then a question is typed, and answered."""
    page.goto(f"{running.url}/dashboard/test-call")
    page.get_by_role("button", name="Call with microphone").click()
    expect(page.locator("#level-in")).not_to_have_js_property("value", 0)
    page.get_by_role("button", name="Mute").click()  # a beep interrupts the agent
    page.get_by_label("Type instead of speaking").fill("Where is my order A-1001?")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#level-out")).not_to_have_js_property("value", 0, timeout=_WITHIN_MS)
    expect(page.locator("#talk-transcript")).to_contain_text(
        "arrives in 12 minutes", timeout=_WITHIN_MS
    )
    page.get_by_role("button", name="Hang up").click()
    page.get_by_role("link", name="See its cost and callbacks").click()


def _look_at_the_call(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(NUMBER)
    main = page.get_by_role("main")
    expect(main).to_contain_text("look_up_order")
    expect(main).to_contain_text("onCallEnd")
    expect(main).to_contain_text("$0.05")


def _look_at_the_invoice(running: Development, page: Page) -> None:
    page.goto(f"{running.url}/dashboard/billing")
    row = page.get_by_role("row").filter(has_text="paid")
    expect(row).to_contain_text("$5.00")
    row.get_by_role("link").first.click()
    expect(page.get_by_role("main")).to_contain_text("$5.00")


def _reload_until(page: Page, text: str) -> None:
    """Load the page again until it says so: a worker is about to hear it from Stripe."""
    for _ in range(100):
        if page.get_by_text(text, exact=True).first.is_visible():
            return
        page.reload()
    raise AssertionError(f"The page never said {text!r}.")
