"""A passkey in a real browser, with the authenticator that Chromium has for tests.

Everything runs as processes of its own, under a name: browsers bind passkeys to names alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.core.management import call_command
from playwright.sync_api import Browser, Page, expect

from core.tests.long import only_in_all
from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, PHONE, Watch, context_of, is_too_wide
from devtools.tests.development import Development, development

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
    only_in_all("a whole product and a browser"),
]

CUSTOMER = {"Email": "erin@example.org", "Password": "a long walk in the rain"}
_AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture(scope="module")
def running(django_db_setup: None, django_db_blocker: Any) -> Iterator[Development]:
    with django_db_blocker.unblock():
        call_command("flush", verbosity=0, interactive=False)
    with development(host="localhost") as running:
        yield running
    with django_db_blocker.unblock():
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture
def page(running: Development, chromium: Browser) -> Iterator[Page]:
    context = context_of(chromium)
    context.set_default_timeout(20_000)
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": _AUTHENTICATOR})
    yield page
    context.close()


def test_from_adding_one_to_logging_in_with_it(running: Development, page: Page) -> None:
    watch = Watch(page, allowed="nothing")
    _sign_up(running, page)
    page.goto(f"{running.url}/dashboard/settings")
    page.get_by_role("link", name="Add a second factor").click()
    page.get_by_role("link", name="Add a passkey").click()
    _is_fit_for_everybody(page)
    page.get_by_label("Name").fill("Laptop")
    page.get_by_role("button", name="Create passkey").click()
    expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    _is_fit_for_everybody(page)
    page.get_by_role("link", name="I saved them").click()
    expect(page.get_by_role("row").filter(has_text="Laptop")).to_contain_text("never")
    page.get_by_role("button", name="Sign out").click()

    page.goto(f"{running.url}/login?next=/dashboard/settings/second-factor")
    for label, value in CUSTOMER.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Sign in").click()
    _is_fit_for_everybody(page)
    page.get_by_role("button", name="Use a passkey").click()
    row = page.get_by_role("row").filter(has_text="Laptop")
    expect(row).to_be_visible()
    expect(row).not_to_contain_text("never")
    assert watch.problems == []


def test_a_device_that_has_one_is_told_so(running: Development, page: Page) -> None:
    _sign_up(running, page, email="frank@example.org")
    page.goto(f"{running.url}/dashboard/settings/second-factor/passkey")
    page.get_by_label("Name").fill("Laptop")
    page.get_by_role("button", name="Create passkey").click()
    expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    page.goto(f"{running.url}/dashboard/settings/second-factor/passkey")
    page.get_by_role("button", name="Create passkey").click()  # without a name
    page.get_by_label("Name").fill("Laptop again")
    page.get_by_role("button", name="Create passkey").click()
    expect(page.get_by_text("already has a passkey for this account")).to_be_visible()


def test_without_scripts_it_is_said(running: Development, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    _sign_up(running, page, email="gina@example.org")
    page.goto(f"{running.url}/dashboard/settings/second-factor/passkey")
    try:
        expect(page.get_by_text("You need a browser that supports passkeys")).to_be_visible()
        expect(page.get_by_role("button", name="Create passkey")).not_to_be_visible()
    finally:
        context.close()


def _sign_up(running: Development, page: Page, **fields: str) -> None:
    page.goto(f"{running.url}/signup")
    page.get_by_label("Email").fill(fields.get("email", CUSTOMER["Email"]))
    page.get_by_label("Password").fill(CUSTOMER["Password"])
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("button", name="Pay").wait_for()


def _is_fit_for_everybody(page: Page) -> None:
    desktop = page.viewport_size
    assert desktop
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert not is_too_wide(page)
    page.set_viewport_size(desktop)
    found = Axe().run(page).response["violations"]
    assert [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]] == []
