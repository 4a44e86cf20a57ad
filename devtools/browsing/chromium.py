"""Chromium, driven by Playwright, and a watch for what a page must not do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    sync_playwright,
)

EXECUTABLE = shutil.which("chromium") or shutil.which("google-chrome")
IS_MISSING = "There is no Chromium: install it (Debian: apt-get install chromium)."

_ARGUMENTS = (
    "--no-sandbox",  # root may run it, and it only opens our own pages
    "--disable-gpu",
    "--disable-background-networking",
    # A fake microphone, which beeps once a second and needs no permission.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)

DESKTOP = (1280, 900)
PHONE = (375, 812)


@contextmanager
def launched() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(_ARGUMENTS))
        yield browser
        browser.close()


def context_of(
    browser: Browser, size: tuple[int, int] = DESKTOP, *, dark: bool = False
) -> BrowserContext:
    """Return a browser context without cookies, with a window of this size in pixels."""
    width, height = size
    return browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        permissions=["microphone", "clipboard-read", "clipboard-write"],
    )


@dataclass
class Watch:
    """Problems on a page, until the end of the block or of the page.

    They are script errors, refused loads, and requests to other sites.
    """

    page: Page
    allowed: str
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._note_console)
        self.page.on("pageerror", self._note_error)
        self.page.on("request", self._note_request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.remove_listener("console", self._note_console)
        self.page.remove_listener("pageerror", self._note_error)
        self.page.remove_listener("request", self._note_request)

    def _note_console(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and self.allowed not in said.text:
            self.problems.append(f"console: {said.text}")

    def _note_error(self, error: Error) -> None:
        self.problems.append(f"script: {error}")

    def _note_request(self, request: Request) -> None:
        parts, own = urlsplit(request.url), urlsplit(self.page.url)
        if parts.scheme in ("http", "https") and own.netloc and parts.hostname != own.hostname:
            self.problems.append(f"loaded from elsewhere: {request.url}")


def is_too_wide(page: Page) -> bool:
    """Return True if the page as a whole scrolls horizontally.

    Waits two frames, so that elements that follow the window's size (a chart) have done so.
    """
    return bool(page.evaluate(_IS_TOO_WIDE))


_IS_TOO_WIDE = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await frame(), await frame();
  return document.documentElement.scrollWidth > innerWidth;
}"""
