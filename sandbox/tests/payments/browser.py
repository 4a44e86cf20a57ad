"""A page that is operated with the keyboard alone, in a browser that runs no scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page

from devtools.browsing.chromium import PHONE

_WITHIN_MS = 20_000


@contextmanager
def without_scripts(chromium: Browser, size: tuple[int, int]) -> Iterator[KeyboardPage]:
    """Open a page, as large as a phone or a desktop's window, in CSS pixels."""
    width, height = size
    with chromium.new_context(
        viewport={"width": width, "height": height},
        is_mobile=size == PHONE,
        java_script_enabled=False,
    ) as context:
        context.set_default_timeout(_WITHIN_MS)
        yield KeyboardPage(context.new_page())


class KeyboardPage:
    def __init__(self, page: Page) -> None:
        self._page = page

    def open(self, url: str) -> None:
        self._page.goto(url)

    def type(self, selector: str, text: str) -> None:
        """Type into a field, replacing its content."""
        self._page.locator(selector).press("Control+A")
        self._page.keyboard.type(text)

    def choose(self, selector: str, text: str) -> None:
        """Choose from a list, by typing the beginning of the choice."""
        self._page.locator(selector).focus()
        self._page.keyboard.type(text)

    def press_enter(self, selector: str) -> None:
        """Press Enter on the first such field or button; wait for the resulting page."""
        with self._page.expect_navigation():
            self._page.locator(selector).first.press("Enter")

    @property
    def url(self) -> str:
        return self._page.url

    @property
    def html(self) -> str:
        return self._page.content()

    @property
    def is_too_wide(self) -> bool:
        """Return True if the page scrolls horizontally."""
        return bool(self._page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def style(self, selector: str, name: str) -> str:
        found = self._page.locator(selector).evaluate(
            "(element, name) => getComputedStyle(element)[name]", name
        )
        return str(found)
