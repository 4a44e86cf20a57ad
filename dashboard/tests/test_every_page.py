"""Checks on every page, in a real browser: it has no errors, and it is accessible.

The product runs as processes of its own; people log in with the form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from core.tests.poisons import IS_SHORT
from devtools.browsing.chromium import DESKTOP, EXECUTABLE, IS_MISSING, PHONE, Watch, is_too_wide
from devtools.browsing.people import contexts, make_people
from devtools.browsing.places import PLACES, Place, Who
from devtools.tests.development import Development
from docs.guides import GUIDES

# Axe and the walk with the keyboard take most of the time. Pages have their parts in common, so
# that these show most of what there is to find, and axe finds nearly all of it at one width.
SIZES_FOR_AXE = (PHONE,) if IS_SHORT else (PHONE, DESKTOP)
_TELLING = {
    "landing",
    "overview",
    "calls",
    "call-failed",
    "callbacks",
    "docs-callbacks",
    "sign-up",
    "numbers",
    "settings",
}
# The pixels of a phone's page that navigation and notices may take.
BEGINS_BEFORE = 200

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(EXECUTABLE is None, reason=IS_MISSING),
]


@pytest.fixture(scope="module")
def ids(running: Development, operator_of_running: None) -> dict[str, str]:
    """The ids that paths hold: the people are there."""
    return make_people(running.url, running.sandbox_url)


@pytest.fixture(scope="module")
def people(
    running: Development, ids: dict[str, str], chromium: Browser
) -> Iterator[dict[Who, BrowserContext]]:
    found = contexts(chromium, running.url, DESKTOP)
    yield found
    for context in found.values():
        context.close()


@pytest.fixture(scope="module")
def pages(people: dict[Who, BrowserContext]) -> dict[Who, Page]:
    """A page for each person. Chromium takes as long to open one as to show what is in it."""
    return {who: context.new_page() for who, context in people.items()}


# ``operations.tests.test_pages`` looks at every page of the admin. Guides have one layout.
OURS = [
    place
    for place in PLACES
    if place.is_ours and (place.name in _TELLING or not (IS_SHORT and "docs-" in place.name))
]


@pytest.mark.parametrize("place", OURS, ids=[place.name for place in OURS])
def test_it_is_fit_for_everybody(
    place: Place, pages: dict[Who, Page], running: Development, ids: dict[str, str]
) -> None:
    page = pages[place.who]
    page.goto("about:blank")  # so that nothing of the page before is taken for this one's
    page.emulate_media(color_scheme="light")
    _resize(page, DESKTOP)
    with Watch(page, allowed=place.allowed) as watch:
        page.goto(running.url + place.path.format(**ids), wait_until="networkidle")
        for size in (DESKTOP, PHONE):
            _resize(page, size)
            assert not is_too_wide(page)
        if place.path.startswith("/dashboard"):
            assert _top_of_title(page) < BEGINS_BEFORE
        assert watch.problems == []  # before axe, some styles of which the policy refuses
        if IS_SHORT and place.name not in _TELLING:
            return
        assert _what_keys_do_not_reach(page) == []
        for size in SIZES_FOR_AXE:
            _resize(page, size)
            assert _what_axe_finds(page) == []
        page.emulate_media(color_scheme="dark")
        assert _what_axe_finds(page, rules=["color-contrast"]) == []


def _resize(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})


def _top_of_title(page: Page) -> float:
    return float(page.evaluate("document.querySelector('h1').getBoundingClientRect().top"))


def _what_axe_finds(page: Page, rules: list[str] | None = None) -> list[str]:
    """Return all that axe objects to, by all rules or by these."""
    options: dict[str, Any] = {
        "resultTypes": ["violations"]
    }  # to tell the rest takes twice as long
    if rules:
        options["runOnly"] = rules
    found = Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


def _what_keys_do_not_reach(page: Page) -> list[str]:
    """Press Tab until it comes round; return what can be used, is seen, and was not passed."""
    page.evaluate(_MARK)
    for _ in range(_AT_MOST):
        page.keyboard.press("Tab")
        if not page.evaluate(_PASS):
            break
    return list(page.evaluate(_LEFT))


_AT_MOST = 300
_MARK = """() => {
  // A page that begins within a form has something before it: that comes in a second lap.
  window.laps = document.activeElement === document.body ? 0 : 1;
  window.passed = new Set();
  window.radios = new Set();
}"""
_PASS = """() => {
  const element = document.activeElement;
  if (element === document.body) return window.laps-- > 0;
  // A date has several parts to stop at.
  if (window.passed.has(element)) return element === window.last;
  window.passed.add(element);
  window.last = element;
  if (element.type === "radio") window.radios.add(element.name);
  return true;
}"""
_LEFT = """() => [...document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true })
    && !element.disabled && element.tabIndex >= 0
    && !window.passed.has(element) && !window.radios.has(element.name))
  .map((element) => element.outerHTML.slice(0, 120))"""


def test_each_guide_is_among_them() -> None:
    assert {place.name for place in OURS} >= _TELLING
    assert {f"/docs/{guide}" for guide in GUIDES} <= {place.path for place in PLACES}


def test_the_variants_of_an_example(
    people: dict[Who, BrowserContext], running: Development
) -> None:
    """One is shown, with keys too; the choice holds for the whole page, and is remembered."""
    page = people["visitor"].new_page()
    watch = Watch(page, allowed="nothing")
    page.goto(f"{running.url}/docs/getting-started")
    first = page.get_by_role("tablist").first
    try:
        _shows(page, "curl")
        first.get_by_role("tab", name="curl").focus()
        page.keyboard.press("ArrowRight")
        _shows(page, "Python")
        page.keyboard.press("End")
        _shows(page, "Node")
        page.keyboard.press("ArrowRight")
        _shows(page, "curl")
        page.keyboard.press("ArrowLeft")
        _shows(page, "Node")
        page.reload()
        _shows(page, "Node")
        first.get_by_role("tab", name="curl").click()
        _shows(page, "curl")
        page.get_by_role("button", name="Copy").first.click()
        page.get_by_role("button", name="Copied").or_(
            page.get_by_role("button", name="Press Ctrl+C")
        ).wait_for()
        assert watch.problems == []
    finally:
        page.close()


def _shows(page: Page, variant: str) -> None:
    """Check the chosen tabs, and the panels that are seen, of the groups that have the variant."""
    for group in page.locator(".variants").filter(has=page.get_by_role("tab", name="curl")).all():
        assert group.get_by_role("tab", selected=True).all_text_contents() == [variant]
        seen = group.locator("[data-variant]:visible")
        assert [each.get_attribute("data-variant") for each in seen.all()] == [variant]


@pytest.mark.usefixtures("ids")  # made before Chromium starts, whichever test is the first
def test_without_a_script_all_variants_are_shown(chromium: Browser, running: Development) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{running.url}/docs/getting-started")
    try:
        variants = page.locator("[data-variant]")
        assert variants.count() > 3
        assert all(each.is_visible() for each in variants.all())
        assert page.get_by_role("button", name="Copy").count() == 0
    finally:
        context.close()
