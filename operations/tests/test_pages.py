"""Every page of the admin in a real browser, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from accounts.models import Account
from core.tests.long import only_in_all
from core.tests.poisons import IS_SHORT
from devtools.browsing.chromium import EXECUTABLE, IS_MISSING, context_of, is_too_wide
from devtools.browsing.people import log_operator_in
from devtools.tests.development import Development
from operations.models import Incident, Notice
from telephony.tests.test_admin import call_of, delivery_of, number_of

pytestmark = pytest.mark.django_db

MODELS = {model._meta.label: model for model in admin.site._registry}
in_browser = pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING)
WIDE, NARROW = (1280, 900), (375, 812)
# The others are laid out by the same template.
_OFTEN_OPENED = {
    "accounts.Account",
    "operations.Incident",
    "telephony.Call",
    "telephony.PhoneNumber",
}
LONG_EMAIL = "the.longest.address.of.all@restaurants.example.org"


def list_of(model: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def page_of(model: Any) -> str | None:
    """Return the path of the page of a row, if there is one."""
    row = model._default_manager.first()
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    return reverse(name, args=[row.pk]) if row else None


def seed() -> Account:
    """Make an account with a call that failed, its callback and its number, and a group."""
    account = Account.objects.create_user(LONG_EMAIL, None, company_name="All Restaurants")
    ended = {"ended_at": timezone.now(), "answered_at": timezone.now(), "duration_seconds": 3661}
    call = call_of(account, ended_reason="model_error", error_code="model_" + "long_" * 5, **ended)
    delivery_of(call)
    number_of(account)
    Group.objects.create(name="Clerks")
    now = timezone.now()
    times = {"began_at": now, "seen_at": now, "confirmed_at": now}
    incident = Incident.objects.create(key="engine-lost", text="1 call was lost", **times)
    for channel in Notice.Channel:
        Notice.objects.create(
            incident=incident, event="began", channel=channel, created_at=now, due_at=now
        )
    LogEntry.objects.log_actions(account.pk, [account], CHANGE, "Suspended: a test.")
    return account


@pytest.fixture(scope="module")
def seeded(running: Development, operator_of_running: None, django_db_blocker: Any) -> str:
    """The id of an account of the running product."""
    with django_db_blocker.unblock():
        return str(seed().pk)


@pytest.fixture(scope="module")
def page(running: Development, seeded: str, chromium: Browser) -> Iterator[Page]:
    context = context_of(chromium, WIDE)
    page = context.new_page()
    log_operator_in(page, running.url)
    yield page
    context.close()


def assert_fit(page: Page, url: str) -> None:
    """Open a page wide and narrow: it does not scroll sideways, and axe has no objection."""
    page.goto(url)
    for width, height in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": height})
        assert not is_too_wide(page)
    found = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": _WCAG})
    rules = found.response["violations"]
    assert [f"{rule['id']}: {node['html']}" for rule in rules for node in rule["nodes"]] == []


_WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


@in_browser
@only_in_all("a whole product and a browser")
class TestInABrowser:
    @pytest.mark.parametrize("label", MODELS)
    def test_it_fits(self, page: Page, running: Development, label: str) -> None:
        assert_fit(page, f"{running.url}{list_of(MODELS[label])}")
        path = page_of(MODELS[label])
        if path and (not IS_SHORT or label in _OFTEN_OPENED):
            assert_fit(page, f"{running.url}{path}")

    @pytest.mark.parametrize("path", ["/admin/", "/admin/telephony/", "/admin/password_change/"])
    def test_other_pages_fit(self, page: Page, running: Development, path: str) -> None:
        assert_fit(page, f"{running.url}{path}")

    def test_confirmations_fit(self, page: Page, running: Development) -> None:
        group = Group.objects.get()
        assert_fit(page, f"{running.url}{reverse('admin:auth_group_delete', args=[group.pk])}")

    def test_a_call_is_seen_whole(self, page: Page, running: Development) -> None:
        """Beside the filters and the navigation, with a long address and a long code."""
        page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        page.goto(f"{running.url}{list_of(MODELS['telephony.Call'])}")
        is_cut = "(list) => list.scrollWidth > list.clientWidth"
        assert page.locator(".results").evaluate(is_cut) is False

    def test_viewing_as_a_customer(self, page: Page, running: Development, seeded: str) -> None:
        page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
        page.goto(f"{running.url}/operators/impersonate/{seeded}")
        page.get_by_role("button", name="View dashboard").click()
        page.goto(f"{running.url}/dashboard/settings")
        banner = page.get_by_role("form", name="Viewing as a customer")
        expect(banner).to_contain_text(f"You are viewing as {LONG_EMAIL} until")
        form = page.get_by_role("region", name="Company")
        form.get_by_label("Company").fill("Other")
        form.get_by_role("button").click()
        expect(page.locator("#messages")).to_contain_text("change the company name")
        page.mouse.wheel(0, 2000)
        expect(banner).to_be_in_viewport()
        assert_fit(page, page.url)
        banner.get_by_role("button", name="Stop viewing").click()
        expect(page).to_have_url(f"{running.url}/admin/accounts/account/{seeded}/change/")
