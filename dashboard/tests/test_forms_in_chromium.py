"""What forms and buttons do in a real browser: copying, sending once, coming back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.sessions.models import Session
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import Account
from accounts.proofs import SUDO_HOLDS
from accounts.sessions import SessionStore
from core.tests.long import only_in_all
from dashboard.tests.test_billing import spend
from dashboard.tests.test_numbers import number_of
from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, PHONE, Watch, context_of, is_too_wide

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
    only_in_all("more visits with a browser"),
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
        watches.append(Watch(page, allowed=" 40"))  # statuses that browsers and htmx note
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


def end_all_sessions() -> None:
    Session.objects.all().delete()


def age_the_session(page: Page) -> None:
    """Have sensitive actions ask for the password again."""
    [key] = [each["value"] for each in page.context.cookies() if each["name"] == "sessionid"]
    session = SessionStore(session_key=key)
    session["proven"] -= SUDO_HOLDS.total_seconds()
    session.save()


def assert_accessible(page: Page) -> None:
    """Check the page at a phone's width."""
    size = page.viewport_size
    assert size
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []
    assert not is_too_wide(page)
    page.set_viewport_size(size)


def draft_in(page: Page) -> Any:
    return json.loads(page.evaluate("sessionStorage.getItem('draft')") or "null")


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


class TestErrors:
    """After an error the keyboard is at the first wrong field."""

    def test_on_a_page(self, visit: Visit) -> None:
        page = visit("/dashboard/numbers/new")
        page.get_by_label("Phone number").fill("+15551234567")
        page.get_by_role("button", name="Register").click()
        expect(page.get_by_text("Correct 2 fields:")).to_be_visible()
        expect(page.get_by_label("onCallStart URL")).to_be_focused()
        assert_accessible(page)
        page.get_by_role("link", name="onCallEnd URL").click()
        expect(page.get_by_label("onCallEnd URL")).to_be_focused()

    def test_on_a_page_that_opens_at_a_part_of_it(self, visit: Visit, alice: Account) -> None:
        number_of(alice)
        page = visit("/dashboard/test-call")
        check = page.locator("#check")
        check.get_by_label("Caller").fill("nobody")
        check.get_by_role("button", name="Run check").click()
        expect(check.get_by_label("Caller")).to_be_focused()
        expect(check.get_by_label("Caller")).to_have_attribute("aria-invalid", "true")

    def test_in_a_part_that_a_script_inserts(self, visit: Visit, alice: Account) -> None:
        number_of(alice)
        page = visit("/dashboard/test-call")
        caller = page.locator("#id_call-caller")
        caller.fill("nobody")
        page.get_by_role("button", name="Call with text").click()
        expect(page.get_by_role("alert")).to_contain_text("Caller: ")
        expect(caller).to_be_focused()


def test_a_spending_limit_that_stops_calls_is_confirmed(visit: Visit, alice: Account) -> None:
    spend(alice, 100)
    page = visit("/dashboard/billing")
    page.get_by_label("Monthly limit in US dollars").fill("3")
    page.get_by_role("button", name="Save limit").click()
    expect(page.get_by_role("heading", name="Reject new calls from now on?")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("button", name="Set limit and reject new calls").click()
    expect(page.get_by_text("Your spending limit of $3.00 is reached.")).to_be_visible()


COMPANY = "/dashboard/settings/company"


class TestDrafts:
    """What was typed into a form that did not arrive."""

    def test_a_session_that_has_ended(self, visit: Visit, alice: Account, password: str) -> None:
        number = number_of(alice)
        path = f"/dashboard/numbers/{number.id}"
        page = visit(path)
        end_all_sessions()
        page.get_by_label("onCallEnd URL").fill("https://new.example/end")
        page.get_by_label("Active").uncheck()
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("Your session has ended")).to_be_visible()
        assert "new.example" not in str([each.get_decoded() for each in Session.objects.all()])

        sign_in(page, alice, password)
        page.wait_for_url(f"**{path}")
        notice = page.get_by_text("This was not saved.")
        expect(notice).to_be_focused()
        assert_accessible(page)
        expect(page.get_by_label("onCallEnd URL")).to_have_value("https://new.example/end")
        expect(page.get_by_label("Active")).not_to_be_checked()
        number.refresh_from_db()
        assert number.is_active  # nothing is sent by itself
        assert draft_in(page) is None

        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text(f"Saved {number}.")).to_be_visible()
        number.refresh_from_db()
        assert (number.is_active, number.on_call_end_url) == (False, "https://new.example/end")
        assert draft_in(page) is None

    def test_a_form_whose_address_is_no_page(
        self, visit: Visit, alice: Account, password: str
    ) -> None:
        page = visit("/dashboard/settings")
        page.get_by_text("Change email address").click()
        page.get_by_label("New email address").fill("new@example")
        page.get_by_role("button", name="Change email").click()
        expect(page.get_by_text("Enter a valid email address.")).to_be_visible()
        page.get_by_label("New email address").fill("new@example.org")
        end_all_sessions()
        page.get_by_role("button", name="Change email").click()
        sign_in(page, alice, password)
        expect(page.get_by_label("New email address")).to_have_value("new@example.org")
        expect(page.get_by_label("New email address")).to_be_visible()

    def test_a_form_that_waits_for_a_confirmation_of_ones_identity(
        self, visit: Visit, alice: Account, password: str
    ) -> None:
        page = visit("/dashboard/keys")
        age_the_session(page)
        page.get_by_label("Label").fill("Production")
        page.get_by_role("button", name="Create key").click()
        expect(page.get_by_role("heading", name="Confirm your identity")).to_be_visible()
        end_all_sessions()
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("Your session has ended")).to_be_visible()
        sign_in(page, alice, password)
        page.wait_for_url("**/dashboard/keys")
        expect(page.get_by_label("Label")).to_have_value("Production")
        assert not alice.api_keys.exists()

        age_the_session(page)
        page.get_by_role("button", name="Create key").click()
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("#new-key")).to_be_visible()
        expect(page.get_by_label("Label")).to_have_value("")
        assert draft_in(page) is None

    def test_passwords_are_not_kept(self, visit: Visit, alice: Account, password: str) -> None:
        page = visit("/dashboard/settings")
        page.get_by_text("Change password").first.click()
        page.get_by_label("Your password").fill(password)
        page.get_by_label("New password").fill("a secret walk in the sun")
        end_all_sessions()
        page.get_by_role("button", name="Change password").click()
        expect(page.get_by_text("Your session has ended")).to_be_visible()
        assert draft_in(page) is None
        sign_in(page, alice, password)
        expect(page.get_by_label("New password")).to_have_value("")

    def test_another_account_does_not_see_them(
        self, visit: Visit, alice: Account, bob: Account, password: str
    ) -> None:
        page = visit("/dashboard/settings")
        page.get_by_role("textbox", name="Company").fill("Alice's secret")
        end_all_sessions()
        page.locator(f"form[action='{COMPANY}'] button").click()
        expect(page.get_by_text("Your session has ended")).to_be_visible()
        assert draft_in(page)["fields"] == [["company_name", "Alice's secret", None]]
        sign_in(page, bob, password)
        page.wait_for_url("**/dashboard/settings")
        expect(page.get_by_role("textbox", name="Company")).to_have_value(bob.company_name)
        assert draft_in(page) is None

    def test_a_form_that_htmx_sends(self, visit: Visit, alice: Account, password: str) -> None:
        page = visit("/dashboard/numbers/connect")
        page.get_by_label("Account SID").fill("AC" + "0" * 32)
        page.get_by_label("Auth token").fill("1" * 32)
        end_all_sessions()
        page.get_by_role("button", name="Show numbers").click()
        page.wait_for_url("**/login?next=**")
        assert "1" * 32 not in str(draft_in(page))
        sign_in(page, alice, password)
        expect(page.get_by_label("Account SID")).to_have_value("AC" + "0" * 32)
        expect(page.get_by_label("Auth token")).to_have_value("")
        expect(page.get_by_text("Passwords and codes are not kept.")).to_be_focused()

        page.get_by_label("Account SID").fill("AC" + "2" * 32)
        page.context.clear_cookies(name="csrftoken")
        page.get_by_role("button", name="Show numbers").click()
        expect(page.get_by_text("This was not saved.")).to_be_visible()
        expect(page.get_by_label("Account SID")).to_have_value("AC" + "2" * 32)

    def test_they_are_valid_for_an_hour(self, visit: Visit, alice: Account, password: str) -> None:
        page = visit("/dashboard/settings")
        page.get_by_role("textbox", name="Company").fill("Typed")
        end_all_sessions()
        page.locator(f"form[action='{COMPANY}'] button").click()
        expect(page.get_by_text("Your session has ended")).to_be_visible()
        page.evaluate("""() => {
          const draft = JSON.parse(sessionStorage.getItem("draft"));
          draft.at -= 60 * 60 * 1000;
          sessionStorage.setItem("draft", JSON.stringify(draft));
        }""")
        sign_in(page, alice, password)
        page.wait_for_url("**/dashboard/settings")
        expect(page.get_by_role("textbox", name="Company")).to_have_value(alice.company_name)
        assert draft_in(page) is None

    def test_a_form_from_before_a_sign_in_in_another_tab(
        self, visit: Visit, alice: Account, password: str
    ) -> None:
        page, other = visit("/dashboard/settings"), visit("/dashboard")
        other.get_by_role("button", name="Sign out").click()
        other.goto(other.url + "login")
        sign_in(other, alice, password)
        page.get_by_role("textbox", name="Company").fill("Typed")
        page.locator(f"form[action='{COMPANY}'] button").click()
        expect(page.get_by_role("heading", name="This page is out of date")).to_be_visible()
        assert_accessible(page)
        page.get_by_role("link", name="Open the page again").click()
        expect(page.get_by_role("textbox", name="Company")).to_have_value("Typed")
        page.locator(f"form[action='{COMPANY}'] button").click()
        expect(page.get_by_text("Company name saved.")).to_be_visible()

    def test_the_chosen_filters_too(self, visit: Visit, alice: Account, password: str) -> None:
        page = visit("/dashboard/calls")
        end_all_sessions()
        page.get_by_label("Direction").select_option("outbound")
        page.wait_for_url("**/login?next=**")
        sign_in(page, alice, password)
        page.wait_for_url("**/dashboard/calls?**direction=outbound**")
        expect(page.get_by_label("Direction")).to_have_value("outbound")
