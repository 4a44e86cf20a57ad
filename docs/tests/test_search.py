"""The search finds the sections of the guides and the operations of the API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from django.test import Client
from playwright.sync_api import Browser, Page, expect
from pytest_django import Settings

from core.tests.long import only_in_all
from devtools.browsing.chromium import DESKTOP, EXECUTABLE, IS_MISSING, PHONE, Watch, context_of
from devtools.tests.development import Development
from docs.guides import GUIDES
from docs.search import search_index
from docs.tests.test_docs import Links, get
from telephony.explanations import SECTIONS

LARGEST = 250_000

in_chromium = pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING)


def entries() -> dict[str, list[str]]:
    return {url: rest for url, *rest in json.loads(search_index().json)}


@pytest.mark.django_db
class TestIndex:
    def test_it_works(self) -> None:
        page, title, text = entries()["/docs/callbacks#if-your-backend-does-not-respond"]
        assert page == "Callbacks and signatures"
        assert title == "If your backend does not respond"
        assert "Switchhook sends onCallStart and onToolCall once" in text

    def test_each_entry_leads_to_a_place_on_a_page(self) -> None:
        pages = {
            path: Links(get(path)).ids for path in {url.partition("#")[0] for url in entries()}
        }
        assert set(pages) == {"/docs/api", *(f"/docs/{slug}" for slug in GUIDES)}
        for url in entries():
            path, _, anchor = url.partition("#")
            assert anchor in pages[path], url

    def test_each_code_is_there(self) -> None:
        titles = [title for _, title, _ in entries().values()]
        for section in SECTIONS.values():
            assert titles.count(section.heading.strip("`")) == 1

    def test_operations_are_there(self) -> None:
        page, title, text = entries()["/docs/api#placeCall"]
        assert (page, title) == ("API reference: Calls", "Place a call")
        assert text == "POST /api/outbound placeCall"

    def test_it_has_no_markup_and_is_small(self) -> None:
        written = search_index().json
        assert len(written) < LARGEST
        assert b"<code>" not in written
        assert b"<!--" not in written

    def test_pages_name_it_and_it_is_cached_for_good(self) -> None:
        for path in ("/docs", "/docs/callbacks", "/docs/api"):
            (url,) = re.findall(r'data-index="([^"]+)"', get(path))
            response = Client().get(url)
            assert response["Cache-Control"] == "public, max-age=31536000, immutable"
            assert response["Content-Type"] == "application/json"
            assert response.content == search_index().json

    def test_a_page_from_before_a_deploy_gets_the_current_one(self) -> None:
        response = Client().get("/docs/search-0123456789abcdef.json")
        assert response.content == search_index().json
        assert response["Cache-Control"] == "public, max-age=300"

    def test_its_url_changes_with_it(self, settings: Settings) -> None:
        before = search_index()
        settings.PUBLIC_URL = "https://calls.example.org"
        assert search_index().digest != before.digest
        assert b"https://calls.example.org" in search_index().json


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, running: Development, chromium: Browser) -> Iterator[Page]:
    context = context_of(chromium, request.param)
    page = context.new_page()
    page.set_default_timeout(10_000)
    watch = Watch(page, allowed="status of 503")
    page.goto(f"{running.url}/docs/callbacks")
    yield page
    assert watch.problems == []
    context.close()


@in_chromium
@only_in_all("a whole product and a browser")
@pytest.mark.django_db
class TestPage:
    def test_it_works(self, page: Page) -> None:
        page.get_by_label("Search the docs").fill("invalid twilio signature")
        results = page.get_by_role("list", name="Search results").get_by_role("link")
        expect(results.first).to_be_visible()
        page.get_by_label("Search the docs").fill("call_start_timeout")
        expect(results.first).to_contain_text("call_start_timeout")
        expect(results.first).to_contain_text("Reasons and errors")
        expect(results.first.locator("mark").first).to_have_text("call_start_timeout")
        expect(page.locator(".search [role=status]")).to_contain_text("result")
        results.first.click()
        page.wait_for_url("**/docs/reasons-and-errors#call_start_timeout")
        expect(page.locator("#call_start_timeout")).to_be_in_viewport()

    def test_it_works_with_the_keyboard(self, page: Page) -> None:
        page.get_by_label("Search the docs").focus()
        page.keyboard.type("retries after 5 seconds")
        results = page.locator(".results a")
        expect(results.first).to_be_visible()
        page.keyboard.press("ArrowDown")
        expect(results.first).to_be_focused()
        page.keyboard.press("ArrowUp")
        expect(page.get_by_label("Search the docs")).to_be_focused()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Escape")
        expect(page.locator(".results")).to_be_hidden()
        expect(page.get_by_label("Search the docs")).to_be_focused()
        page.get_by_label("Search the docs").fill("place a call")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("#(placeCall|place-a-call)$"))

    def test_nothing_found(self, page: Page) -> None:
        page.get_by_label("Search the docs").fill("xylophone")
        expect(page.locator(".results")).to_have_text("Nothing found.")
        expect(page.locator(".search [role=status]")).to_have_text("No results")
        page.get_by_label("Search the docs").fill("")
        expect(page.locator(".results")).to_be_hidden()

    def test_what_is_typed_is_text(self, page: Page) -> None:
        for typed in ("<img src=x>", "a(", "\\", "[a-", ".*"):
            page.get_by_label("Search the docs").fill(typed)
            expect(page.locator(".results")).to_be_visible()
        assert page.locator(".results img").count() == 0

    def test_the_index_is_loaded_once(self, page: Page) -> None:
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))
        for typed in ("c", "ca", "call"):
            page.get_by_label("Search the docs").fill(typed)
            expect(page.locator(".results a").first).to_be_visible()
        assert len([url for url in loaded if "/docs/search-" in url]) == 1

    def test_it_says_that_it_is_not_available(self, page: Page) -> None:
        page.route("**/docs/search-*.json", lambda route: route.fulfill(status=503))
        page.get_by_label("Search the docs").fill("call")
        expect(page.locator(".search [role=status]")).to_have_text("The search is not available.")


@in_chromium
@only_in_all("a whole product and a browser")
@pytest.mark.django_db
def test_it_is_not_shown_without_scripts(running: Development, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    for path in ("/docs", "/docs/callbacks", "/docs/api"):
        page.goto(running.url + path)
        expect(page.locator(".search")).to_be_hidden()
    context.close()
