"""A customer's backend for tests: responds as configured, and records its callbacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sandbox.tests.customer import serving

Tool = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class Callback:
    raw: bytes
    headers: dict[str, str]

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)


@dataclass
class Backend:
    url: str
    answer: dict[str, Any] | None
    status: int = 200
    plan: dict[str, Any] = field(default_factory=dict)
    received: list[tuple[str, Callback]] = field(default_factory=list)
    tool: Tool | None = None
    start: Callable[[], web.StreamResponse] | None = None
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event | None = None

    @property
    def credentials(self) -> dict[str, Any]:
        """The fields of a response that has Twilio dial or speak at the account's expense."""
        return {name: self.plan[name] for name in ("twilioAccountSid", "twilioAuthToken")}

    def to(self, name: str) -> list[Callback]:
        return [callback for path, callback in self.received if path == f"/{name}"]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        callback = Callback(await request.read(), dict(request.headers))
        self.received.append((request.path, callback))
        if request.path == "/start":
            self.is_asked.set()
            if self.may_answer is not None:
                await self.may_answer.wait()
            if self.start is not None:
                return self.start()
            answer = {**self.plan} if self.answer is None else self.answer
            return web.json_response(answer, status=self.status)
        if request.path == "/tool":
            if self.tool:
                return await self.tool(callback.body)
            return web.json_response({"result": {"table": 7}})
        return web.Response(status=204)


@asynccontextmanager
async def serve_backend(account_sid: str, token: str, key: str) -> AsyncIterator[Backend]:
    backend = Backend(url="", answer=None)
    async with serving(backend.handle) as url:
        backend.url = url
        backend.plan = {
            "twilioAccountSid": account_sid,
            "twilioAuthToken": token,
            "openaiApiKey": key,
            "systemPrompt": "Be brief.",
            "onToolCallUrl": f"{url}/tool",
            "tools": [{"type": "function", "name": "book_table", "parameters": {"type": "object"}}],
            "builtinTools": ["end_call", "transfer_call", "send_dtmf"],
            "greeting": "Hello.",
        }
        yield backend
