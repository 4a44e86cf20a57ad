"""HTTP, as a customer's program speaks it, and the sandbox's own API beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp


class DemoFailed(Exception):
    """Something did not happen as it must, in one sentence."""


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
        """Yield each line of a stream of JSON lines as it comes."""
        async with self._request(method, path, body) as response:
            if not response.ok:
                why = (await response.text()).strip()
                raise DemoFailed(f"{method} {path} was answered with {response.status}: {why}")
            async for line in response.content:
                yield json.loads(line)

    def _request(self, method: str, path: str, body: Any) -> Any:
        return self._session.request(method, self.base + path, json=body, headers=self._headers)
