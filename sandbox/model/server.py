"""The models as an aiohttp server: the only part that uses sockets and clocks."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import WSMsgType, web

from sandbox.bell import Bell
from sandbox.constants import SANDBOX_OPENAI_KEY
from sandbox.model.base import ModelSession
from sandbox.model.errors import (
    ErrorBody,
    invalid_api_key,
    invalid_model,
    missing_api_key,
    missing_model,
    model_not_found,
)
from sandbox.model.live.session import LiveSession
from sandbox.model.live.settings import LIVE_MODELS
from sandbox.model.script import Close, Disturbance, Drop, Script
from sandbox.model.session import RealtimeSession

PATH = "/openai/v1/realtime"
LIVE_PATH = "/openai/v1/live/sessions"
MODELS_PATH = "/openai/v1/models"
REALTIME = "gpt-realtime"
# What GET /v1/models lists: any key may use all of them.
MODELS = (
    "gpt-realtime-1.5",
    "gpt-realtime-2",
    "gpt-realtime-2.1",
    "gpt-realtime-2.1-mini",
    *LIVE_MODELS,
)
MODELS_SINCE = 1_767_225_600  # Unix seconds; one date stands for all of them
DROPPED = 0  # in place of a status
PING_SECONDS = 20
LIFETIME_S = 3_600.0
# The real server's limit for one event: 15 MiB of audio, in base64.
LONGEST_MESSAGE = 20 * 1024 * 1024 + 1024
NO_BINARY = ErrorBody(
    "invalid_event", "Expected a text WebSocket message; binary frames are not supported."
)

T = TypeVar("T")


@dataclass(eq=False)
class SessionRecord:
    """A connection as a test sees it: every event that was received and sent, in order."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    received: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    is_closed: bool = False
    close_code: int | None = None
    _disturb: Callable[[Disturbance], None] | None = None

    def received_of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.received if event.get("type") == kind]

    def sent_of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.sent if event["type"] == kind]

    def disturb(self, disturbance: Disturbance) -> None:
        """Send an error, close the socket or drop it, now."""
        if self._disturb is None:
            raise RuntimeError("The session is not open.")
        self._disturb(disturbance)


class ModelServer:
    """Serves sessions; ``pace`` is how many times slower than the real server it is, 0 is at once.

    ``key`` is the one API key that it accepts, None accepts any. A session ends after
    ``lifetime_s`` seconds. Statuses in ``refusals`` answer the next upgrades, one each (``DROPPED``
    drops the connection), and no upgrade is answered while ``opens`` is not set. ``retired`` names
    models that it refuses. ``clock`` tells the time in Unix seconds. Only a server that records
    keeps ``sessions``, and events in them. ``realtime`` is the class of Realtime's sessions.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        pace: float = 1.0,
        key: str | None = SANDBOX_OPENAI_KEY,
        lifetime_s: float = LIFETIME_S,
        clock: Callable[[], float] = time.time,
        records: bool = False,
        realtime: type[RealtimeSession] = RealtimeSession,
    ) -> None:
        self.script = script or Script()
        self.pace = pace
        self.lifetime_s = lifetime_s
        self.url = ""
        self.live_url = ""
        self.sessions: list[SessionRecord] = []
        self.refusals: list[int] = []
        self.retired: set[str] = set()
        self.opens = asyncio.Event()
        self.opens.set()
        self._clock = clock
        self._key = key
        self._records = records
        self._new_realtime = realtime
        self._numbers = itertools.count(1)
        self._bell = Bell()
        self._stopping = asyncio.Event()

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(PATH, self._realtime)
        app.router.add_get(LIVE_PATH, self._live)
        app.router.add_get(MODELS_PATH, self._list_models)
        app.router.add_get(MODELS_PATH + "/{model}", self._show_model)
        app.on_shutdown.append(self._shut_down)

    async def wait_for(self, predicate: Callable[[ModelServer], T], timeout: float = 20.0) -> T:  # noqa: ASYNC109
        """Return the predicate's first true value; it is called again after each change."""
        try:
            return await self._bell.until(lambda: predicate(self), timeout)
        except TimeoutError:
            seen = [[event.get("type") for event in s.received] for s in self.sessions]
            raise AssertionError(f"It did not happen. The model received {seen}.") from None

    def changed(self) -> None:
        """Wake everything that waits for a recorded event."""
        if self._records:
            self._bell.ring()

    async def _shut_down(self, _app: web.Application) -> None:
        self._stopping.set()

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        session = self._new_realtime(
            request.query.get("model", ""),
            self.script,
            number=next(self._numbers),
            expires_at=self._expires_at,
        )
        refused = self._refused_key(request) or self._refused_model(request.query.get("model"))
        return await self._serve(request, session, refused)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        session = LiveSession(
            self.script,
            number=next(self._numbers),
            expires_at=self._expires_at,
            began_at=int(self._clock()),
            refusal=self._refused_key(request),
        )
        return await self._serve(request, session, None)

    async def _serve(
        self, request: web.Request, session: ModelSession, refused: ErrorBody | None
    ) -> web.StreamResponse:
        script = self.script
        record = SessionRecord(request.path, dict(request.query), dict(request.headers))
        if self._records:
            self.sessions.append(record)
        self.changed()
        if script.upgrade is None:
            await self._stopping.wait()
            return web.Response(status=503)
        await self.opens.wait()
        if (status := self.refusals.pop(0) if self.refusals else script.upgrade) == DROPPED:
            _drop(request)
        if status != 101:
            return _refuse_upgrade(status)
        socket = web.WebSocketResponse(
            heartbeat=PING_SECONDS, max_msg_size=LONGEST_MESSAGE, compress=False, timeout=1
        )
        await socket.prepare(request)
        link = _Link(self, session, socket, request, record if self._records else None)
        await link.run(refused, self._stopping)
        record.is_closed, record.close_code = True, socket.close_code
        self.changed()
        return socket

    @property
    def _expires_at(self) -> int:
        return int(self._clock() + self.lifetime_s)

    def _refused_key(self, request: web.Request) -> ErrorBody | None:
        """Return why the session is refused. The real server says so after the upgrade."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            return missing_api_key()
        if self._key is not None and key != self._key:
            return invalid_api_key(key)
        return None

    def _refused_model(self, model: str | None) -> ErrorBody | None:
        if not model:
            return missing_model()
        if model in self.retired:
            return model_not_found(model)
        return None if model.startswith(REALTIME) else invalid_model(model)

    # The list of models

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused_key(request):
            return web.json_response({"error": refused.wire()}, status=401)
        return web.json_response({"object": "list", "data": [_model(name) for name in MODELS]})

    async def _show_model(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused_key(request):
            return web.json_response({"error": refused.wire()}, status=401)
        name = request.match_info["model"]
        if name not in MODELS:
            return web.json_response({"error": model_not_found(name).wire()}, status=404)
        return web.json_response(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": MODELS_SINCE, "owned_by": "openai"}


class _Link:
    """A session and its socket: one task reads, one writes, the session never waits."""

    def __init__(
        self,
        server: ModelServer,
        session: ModelSession,
        socket: web.WebSocketResponse,
        request: web.Request,
        record: SessionRecord | None,
    ) -> None:
        self._server = server
        self._session = session
        self._socket = socket
        self._request = request
        self._record = record
        self._odd_json = itertools.count() if server.script.odd_json else None
        self._began = time.monotonic()
        self._wake = asyncio.Event()
        if record:
            record._disturb = lambda what: self._let(lambda: session.disturb(what))

    async def run(self, refused: ErrorBody | None, stopping: asyncio.Event) -> None:
        self._let((lambda: self._session.fail(refused)) if refused else self._session.open)
        writer = asyncio.create_task(self._write())
        closer = asyncio.create_task(self._close_when(stopping))
        try:
            await self._read()
        finally:
            self._session.is_over = True
            self._wake.set()
            closer.cancel()
            await asyncio.wait([closer])
            await writer

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                self._receive(message.data)
            elif message.type is WSMsgType.BINARY:
                self._let(lambda: self._session.fail(NO_BINARY))

    def _receive(self, text: str) -> None:
        if self._record:
            with suppress(ValueError):
                event = json.loads(text)
                if isinstance(event, dict):
                    self._record.received.append(event)
        self._let(lambda: self._session.receive(text))
        self._server.changed()

    def _let(self, act: Callable[[], None]) -> None:
        """Let the session act at the right time, and continue from there."""
        self._session.advance(self._now_ms)
        act()
        self._session.advance(self._now_ms)
        self._wake.set()

    @property
    def _now_ms(self) -> float:
        """The session's time: without pace it has finished before anything else can happen."""
        if self._server.pace == 0:
            return math.inf
        return (time.monotonic() - self._began) * 1000 / self._server.pace

    async def _write(self) -> None:
        while True:
            self._wake.clear()
            self._session.advance(self._now_ms)
            for output in self._session.take():
                await self._send(output)
            if self._session.is_over or self._socket.closed:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_wait()):
                    await self._wake.wait()

    def _seconds_to_wait(self) -> float | None:
        if self._session.next_ms is None:
            return None
        return max(0.0, self._session.next_ms - self._now_ms) * self._server.pace / 1000

    async def _send(self, output: dict[str, Any] | Close | Drop) -> None:
        match output:
            case Close():
                await self._socket.close(code=output.code, message=output.reason.encode())
            case Drop():
                _drop(self._request)
            case _:
                if self._record:
                    self._record.sent.append(output)
                with suppress(ConnectionError):
                    await self._socket.send_str(_json(output, self._odd_json))
                self._server.changed()

    async def _close_when(self, stopping: asyncio.Event) -> None:
        """End the session when the server stops, or after the session's lifetime."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._server.lifetime_s):
                await stopping.wait()
        if stopping.is_set():
            self._let(lambda: self._session.disturb(Close(1001, "server shutdown")))
        else:
            self._let(self._session.expire)


def _drop(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()


def _refuse_upgrade(status: int) -> web.Response:
    body = ErrorBody(None, f"The sandbox was told to answer {status}.", "server_error")
    return web.json_response({"error": body.wire()}, status=status)


def _json(event: dict[str, Any], odd: itertools.count[int] | None) -> str:
    """Encode an event as the real server does, or alternately in three other equivalent ways."""
    if odd is None:
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    match next(odd) % 3:
        case 0:
            return json.dumps(dict(reversed(event.items())), separators=(",", ":"))
        case 1:
            return json.dumps(event, ensure_ascii=False)
    return f"\n{json.dumps(event, indent=1)}\n"


@asynccontextmanager
async def serve_model(
    script: Script | None = None,
    *,
    pace: float = 0.0,
    key: str | None = SANDBOX_OPENAI_KEY,
    lifetime_s: float = LIFETIME_S,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[ModelServer]:
    """Serve a model for a test on a free port of 127.0.0.1; its URL is ``url``."""
    model = ModelServer(
        script, pace=pace, key=key, lifetime_s=lifetime_s, clock=clock, records=True
    )
    app = web.Application()
    model.add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        model.url = f"ws://{host}:{port}{PATH}"
        model.live_url = f"ws://{host}:{port}{LIVE_PATH}"
        yield model
    finally:
        await runner.cleanup()
