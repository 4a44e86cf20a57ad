"""Chromium, driven by Playwright, and what a page must not do while it is open."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

EXECUTABLE = shutil.which("chromium") or shutil.which("google-chrome")
IS_MISSING = "There is no Chromium: install it (Debian: apt-get install chromium)."

_ARGUMENTS = (
    "--no-sandbox",  # it may be root's, and opens pages of ours alone
    "--disable-gpu",
    "--disable-background-networking",
    # A microphone that nobody has to plug in, or to allow: it beeps once a second.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)

DESKTOP = (1280, 900)
PHONE = (390, 844)


@contextmanager
def launched() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(_ARGUMENTS))
        yield browser
        browser.close()


def context_of(
    browser: Browser, size: tuple[int, int] = DESKTOP, *, dark: bool = False
) -> BrowserContext:
    """Return a browser of somebody's own, without cookies, with a window of that size in pixels."""
    width, height = size
    return browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        permissions=["microphone", "clipboard-read", "clipboard-write"],
    )


@dataclass
class Watch:
    """What went wrong on a page: errors of its scripts, refused loads, requests to elsewhere."""

    page: Page
    allowed: str
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self._note_console(said.type, said.text))
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.page.on("request", lambda request: self._note_request(request.url))

    def _note_console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and self.allowed not in text:
            self.problems.append(f"console: {text}")

    def _note_request(self, url: str) -> None:
        parts, own = urlsplit(url), urlsplit(self.page.url)
        if parts.scheme in ("http", "https") and own.netloc and parts.hostname != own.hostname:
            self.problems.append(f"loaded from elsewhere: {url}")


def is_too_wide(page: Page) -> bool:
    """Whether the page, and not a part of it, must be scrolled to the right to be read.

    Two frames later: what follows the window's size (a chart) has done so by then.
    """
    return bool(page.evaluate(_IS_TOO_WIDE))


_IS_TOO_WIDE = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await frame(), await frame();
  return document.documentElement.scrollWidth > innerWidth;
}"""
