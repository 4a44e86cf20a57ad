"""The dashboard on a phone, and what its script adds, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import Account
from core.tests.long import only_in_all
from dashboard.tests.conftest import logged_in
from dashboard.tests.test_live_calls import call_of
from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, PHONE
from telephony.engine.plan import LONGEST_CALL_S
from telephony.models import Call

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
    only_in_all("more visits with a browser"),
]

TALKING = {"answered_at": timezone.now(), "call_sid": "CA" + "2" * 32}


@pytest.fixture
def options() -> dict[str, Any]:
    """Of the browser: tests override them."""
    return {}


@pytest.fixture
def context(
    live_server: LiveServer, chromium: Browser, options: dict[str, Any]
) -> Iterator[BrowserContext]:
    size = {"width": PHONE[0], "height": PHONE[1]}
    context = chromium.new_context(viewport=size, base_url=live_server.url, **options)
    yield context
    context.close()


@pytest.fixture
def phone(context: BrowserContext, alice: Account, live_server: LiveServer) -> Page:
    """A phone on which Alice is signed in."""
    session = logged_in(alice).cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    return context.new_page()


class TestLiveCalls:
    """Browsers ask for the list every three seconds, by a clock that these tests turn."""

    PART = "**/dashboard/live"

    def test_the_time_counts_on(self, alice: Account, phone: Page) -> None:
        call_of(alice, **TALKING)
        phone.route(self.PART, lambda route: None)  # never responds: what changes is the page's own
        phone.goto("/dashboard")
        lasted = phone.locator(".lasted")
        expect(lasted).not_to_have_text(lasted.inner_text())
        expect(lasted).to_have_text(re.compile(r"^\d+ s$|^\d+ min \d\d s$"))

    def test_a_question_stays_with_its_focus(self, alice: Account, phone: Page) -> None:
        call_of(alice, **TALKING)
        phone.clock.install()
        phone.goto("/dashboard")
        self.question(phone).click()
        hang_up = phone.get_by_role("button", name="Hang up now")
        hang_up.focus()
        old = phone.locator("#live-calls").element_handle()
        phone.clock.run_for(4_000)
        phone.wait_for_function("(old) => !old.isConnected", arg=old)
        expect(hang_up).to_be_focused()

    def test_it_hangs_up(self, alice: Account, phone: Page) -> None:
        call = call_of(alice, **TALKING)
        phone.goto("/dashboard")
        self.question(phone).click()
        phone.get_by_role("button", name="Hang up now").click()
        expect(phone.get_by_text("Ending", exact=True)).to_be_visible()
        expect(phone).to_have_url(re.compile("/dashboard$"))
        call.refresh_from_db()
        assert call.hangup_requested_at

    def question(self, page: Page) -> Locator:
        return page.get_by_label("Hang up the call from +19805551234 to +15551234567")


def test_a_call_is_seen_without_scrolling_sideways(alice: Account, phone: Page) -> None:
    call_of(
        alice,
        ended_at=timezone.now(),
        status=Call.Status.FAILED,
        ended_reason="failed",
        error_code="twilio_account_unreachable",
        duration_seconds=LONGEST_CALL_S,
        caller_phone="+442079460123",
    )
    phone.goto("/dashboard/calls")
    assert phone.get_by_role("columnheader").all_inner_texts() == [
        "Time",
        "Outcome",
        "From",
        "Duration",
    ]
    for text in ("Failed", "+442079460123", "3 h 55 min 00 s"):
        box = phone.get_by_role("cell", name=text).bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE[0]


class TestWithoutScripts:
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"java_script_enabled": False}

    def test_the_menu_has_all_navigation(self, phone: Page) -> None:
        phone.goto("/dashboard/calls")
        menu = phone.get_by_role("navigation", name="Menu")
        expect(phone.get_by_role("navigation")).to_have_count(0)
        phone.locator("summary", has_text="Alice's Plumbing").click()
        expect(menu.get_by_text("alice@example.org")).to_be_visible()
        expect(menu.get_by_role("link", name="Calls")).to_have_attribute("aria-current", "page")
        for name in ("Docs", "API", "Settings"):
            expect(menu.get_by_role("link", name=name, exact=True)).to_be_visible()
        menu.get_by_role("button", name="Sign out").click()
        main = phone.get_by_role("navigation", name="Main")
        expect(main.get_by_role("link", name="Sign in")).to_be_visible()


class TestSignUp:
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"timezone_id": "Pacific/Apia"}

    def test_it_takes_the_browsers_time_zone(
        self, context: BrowserContext, live_server: LiveServer
    ) -> None:
        page = context.new_page()
        page.goto("/signup")
        expect(page.locator("[name=time_zone]")).to_have_value("Pacific/Apia")
