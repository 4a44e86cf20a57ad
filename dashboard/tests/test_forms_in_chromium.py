"""What forms and buttons do in a real browser: copying, sending once, coming back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import Account
from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, Watch, context_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
]

Visit = Callable[[str], Page]


@pytest.fixture
def context(live_server: LiveServer, chromium: Browser) -> Iterator[BrowserContext]:
    context = context_of(chromium)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def visit(
    alice: Account, password: str, live_server: LiveServer, context: BrowserContext
) -> Iterator[Visit]:
    """Open a path in a new tab of somebody who has signed in as Alice."""
    watches: list[Watch] = []

    def open_tab(path: str) -> Page:
        page = context.new_page()
        watches.append(Watch(page, allowed="status of 4"))
        page.goto(f"{live_server.url}{path}")
        return page

    sign_in(open_tab("/login"), alice, password)
    yield open_tab
    assert [watch.problems for watch in watches if watch.problems] == []


def sign_in(page: Page, account: Account, password: str) -> None:
    page.get_by_label("Email").fill(account.email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/login" not in url)


def deny(page: Page, permission: str) -> None:
    target = page.context.new_cdp_session(page).send("Target.getTargetInfo")["targetInfo"]
    browser = page.context.browser
    assert browser
    browser.new_browser_cdp_session().send(
        "Browser.setPermission",
        {
            "permission": {"name": permission},
            "setting": "denied",
            "browserContextId": target["browserContextId"],
        },
    )


class TestCopying:
    def test_it_says_so_and_has_its_label_again(self, visit: Visit) -> None:
        page = visit("/dashboard/numbers")
        page.clock.install()
        button = page.locator("[data-copy='#voice-url']")
        button.click()
        expect(button).to_have_text("Copied")
        expect(page.locator(".said[role=status]")).to_have_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.locator("#voice-url").inner_text()
        button.click()  # while it says so: its label is not lost
        page.clock.run_for(2000)
        expect(button).to_have_text("Copy")
        expect(page.locator(".said[role=status]")).to_have_text("")

    def test_a_name_of_its_own_comes_back_too(self, visit: Visit) -> None:
        page = visit("/dashboard")
        page.clock.install()
        page.get_by_role("button", name="Copy the voice URL").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        page.clock.run_for(2000)
        expect(page.get_by_role("button", name="Copy the voice URL")).to_be_visible()

    def test_without_the_permission_the_text_is_selected(self, visit: Visit) -> None:
        page = visit("/dashboard/numbers")
        deny(page, "clipboard-write")
        button = page.locator("[data-copy='#voice-url']")
        button.click()
        expect(button).to_have_text("Press Ctrl+C")
        expect(page.locator(".said[role=status]")).to_have_text("Press Ctrl+C")
        selected = page.evaluate("getSelection().toString()").strip()
        assert selected == page.locator("#voice-url").inner_text()


class TestSending:
    def test_a_form_is_sent_once_and_can_be_sent_again_after_going_back(self, visit: Visit) -> None:
        sent: list[Route] = []

        def stay(route: Route) -> None:
            sent.append(route)
            route.fulfill(status=204)  # the browser stays on the page

        page = visit("/dashboard/settings")
        page.route("**/dashboard/settings/company", stay)
        button = page.locator("form[action$='/company'] button")
        page.get_by_role("textbox", name="Company").fill("Erin's Eels")
        button.click()
        expect(button).to_have_text("Saving…")
        expect(button).to_be_focused()
        button.click(force=True)  # Playwright would wait until it is enabled
        page.get_by_role("textbox", name="Company").press("Enter")
        # The page is shown as it was left, as it is with the browser's Back button.
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        expect(button).to_have_text("Save")
        assert len(sent) == 1
        with page.expect_request("**/dashboard/settings/company"):
            button.click()
