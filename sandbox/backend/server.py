"""The backend's routes: four callbacks, a page that shows them, and the same as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from sandbox.backend import signatures
from sandbox.backend.behaviour import answer_to_call, delay_s, error_status, raw_answer
from sandbox.backend.journal import Journal
from sandbox.backend.page import render
from sandbox.backend.restaurant import UnknownTool, run_tool

PREFIX = "/backend"
LONGEST_WAIT_S = 60.0
_UNSIGNED = (
    401,
    {"error": "The signatures do not match any secret that was told to POST /backend/secret."},
)

Reply = tuple[int, Any]
Answerer = Callable[[dict[str, Any], web.Request], Reply]
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Backend:
    """A customer's backend, which checks signatures once it knows a secret."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = list(secrets)
        self._journal = Journal()
        self._stopping = asyncio.Event()

    def add_routes(self, app: web.Application) -> None:
        callbacks = {
            "/calls/start": ("onCallStart", _start),
            "/calls/end": ("onCallEnd", _acknowledge),
            "/calls/error": ("onError", _acknowledge),
            "/tools": ("onToolCall", _tool),
        }
        for path, (name, answer) in callbacks.items():
            app.router.add_post(PREFIX + path, self._callback(name, answer))
        app.router.add_post(f"{PREFIX}/secret", self._learn_secret)
        app.router.add_get(f"{PREFIX}/", self._page)
        app.router.add_get(f"{PREFIX}/callbacks", self._callbacks)
        app.on_shutdown.append(self._shut_down)

    def _callback(self, name: str, answer: Answerer) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            raw = await request.read()
            verdicts = signatures.check(raw, request.headers, self._secrets)
            body: Any = None
            try:
                body = json.loads(raw)
                status, reply = (
                    await self._reply(body, request, answer) if verdicts.are_fine else _UNSIGNED
                )
            except ValueError as error:
                status, reply = 400, {"error": str(error)}
            said = reply.text if isinstance(reply, Raw) else reply
            self._journal.write(name, dict(request.query), verdicts, body, status, said)
            return _json(reply, status)

        return handle

    async def _reply(self, body: Any, request: web.Request, answer: Answerer) -> Reply:
        """Return the backend's response; raise ValueError if the request makes no sense."""
        if not isinstance(body, dict):
            raise ValueError("The body is not a JSON object.")
        await self._dawdle(delay_s(request.query))
        if (raw := raw_answer(request.query)) is not None:
            return 200, Raw(raw)
        if status := error_status(request.query):
            return status, {"error": f"The URL asked for status {status}."}
        return answer(body, request)

    async def _dawdle(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _learn_secret(self, request: web.Request) -> web.Response:
        """Add an account's ``{"secret": "whsec_…"}``; earlier secrets stay valid."""
        try:
            secret = (await request.json())["secret"]
        except (ValueError, TypeError, KeyError):
            secret = None
        if not signatures.is_secret(secret):
            return _json({"error": 'Send {"secret": "whsec_…"}.'}, 400)
        if secret not in self._secrets:
            self._secrets.append(secret)
        return web.Response(status=204)

    async def _page(self, _request: web.Request) -> web.Response:
        text = render(self._journal.after(0), knows_a_secret=bool(self._secrets))
        return web.Response(
            text=text,
            content_type="text/html",
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    async def _callbacks(self, request: web.Request) -> web.Response:
        """Return the callbacks after ``?after=N``; with ``&wait=seconds``, as soon as there are
        any.
        """
        try:
            after = int(request.query.get("after", 0))
            wait = min(float(request.query.get("wait", 0)), LONGEST_WAIT_S)
        except ValueError:
            return _json({"error": "after and wait are numbers."}, 400)
        entries = await self._journal.wait_after(after, wait)
        return _json({"callbacks": [entry.wire() for entry in entries]})

    async def _shut_down(self, _app: web.Application) -> None:
        self._stopping.set()
        self._journal.close()


@dataclass(frozen=True, slots=True)
class Raw:
    """A body that is sent as it stands."""

    text: str


def _start(body: dict[str, Any], request: web.Request) -> Reply:
    # A proxy in front of this may have terminated TLS.
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    tools_url = f"{request.url.origin().with_scheme(scheme)}{PREFIX}/tools"
    return 200, answer_to_call(body, tools_url, request.query)


def _acknowledge(_body: dict[str, Any], _request: web.Request) -> Reply:
    return 200, {"received": True}


def _tool(body: dict[str, Any], _request: web.Request) -> Reply:
    match body:
        case {"toolName": str(name), "arguments": dict(arguments)}:
            pass
        case _:
            raise ValueError("toolName and arguments are missing.")
    try:
        return 200, {"result": run_tool(name, arguments)}
    except UnknownTool:
        return 404, {"error": f"There is no tool {name}."}


def _json(value: Any, status: int = 200) -> web.Response:
    text = value.text if isinstance(value, Raw) else json.dumps(value, ensure_ascii=False)
    return web.Response(text=text, status=status, content_type="application/json")
