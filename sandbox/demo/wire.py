"""HTTP as a customer's program speaks it, and the sandbox's own API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from html.parser import HTMLParser
from typing import Any

import aiohttp


class DemoFailed(Exception):
    """Something did not happen as it must; the message is one sentence."""


class _Form(HTMLParser):
    """The values of a page's one form."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and (name := given.get("name")):
            self.values[name] = given.get("value") or ""


class Wire:
    """Requests to one server, with one ``Authorization`` once it is known."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.base = base
        self._session = session
        self._headers: dict[str, str] = {}

    def authorize(self, bearer: str) -> None:
        self._headers = {"Authorization": f"Bearer {bearer}"}

    async def ask(
        self, method: str, path: str, body: Any = None, *, accept: tuple[int, ...] = ()
    ) -> tuple[int, Any]:
        """Return the status and the decoded body; raise unless it is a 2xx or one to accept."""
        async with self._request(method, path, body) as response:
            text = await response.text()
            if response.ok or response.status in accept:
                return response.status, json.loads(text or "null")
        raise DemoFailed(f"{method} {path} was answered with {response.status}: {text.strip()}")

    async def lines(self, method: str, path: str, body: Any = None) -> AsyncIterator[Any]:
        """Yield each line of a stream of JSON lines as it arrives."""
        async with self._request(method, path, body) as response:
            if not response.ok:
                why = (await response.text()).strip()
                raise DemoFailed(f"{method} {path} was answered with {response.status}: {why}")
            async for line in response.content:
                yield json.loads(line)

    async def page(self, url: str) -> str:
        """Return the HTML of a page. The session must keep cookies."""
        async with self._session.get(url) as response:
            return await response.text()

    async def submit_page(self, url: str, values: Mapping[str, str] | None = None) -> str:
        """Submit a page's form like a browser; return the URL that it leads to.

        :param values: what is typed into fields. The others stay as the page fills them in.
        """
        filled = _Form(await self.page(url)).values | dict(values or {})
        async with self._session.post(url, data=filled, headers={"Referer": url}) as response:
            if not (response.ok and response.history):
                raise DemoFailed(f"The form at {url} was answered with {response.status}.")
            return str(response.url)

    def _request(self, method: str, path: str, body: Any) -> Any:
        return self._session.request(method, self.base + path, json=body, headers=self._headers)
