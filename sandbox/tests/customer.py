"""A customer of the carrier, for tests of the phone: answers webhooks, accepts media streams."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from sandbox.phone.call import Call
from sandbox.speech import to_mulaw

ACCOUNT_SID = "AC" + "0123456789abcdef" * 2
AUTH_TOKEN = "the-token-of-a-test"
NUMBER = "+15551234567"
# The speed of a call in tests, compared with real time.
SPEED = 20

KEY_TONES = {
    key: (low, high)
    for low, row in zip((697, 770, 852, 941), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}

Talk = Callable[["Socket"], Awaitable[None]]


@dataclass
class Request:
    """A webhook as received."""

    path: str
    url: str
    form: dict[str, str]
    signature: str | None
    idempotency_token: str | None


@dataclass
class Socket:
    """The customer's end of a media stream."""

    ws: web.WebSocketResponse
    url: str
    signature: str | None
    received: list[dict[str, Any]] = field(default_factory=list)
    stream_sid: str = ""

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message, or None when the stream is closed."""
        message = await self.ws.receive(timeout=30)
        if message.type is not WSMsgType.TEXT:
            return None
        event = json.loads(message.data)
        self.received.append(event)
        self.stream_sid = event.get("streamSid", "")
        return event

    async def until(self, name: str) -> dict[str, Any]:
        """Return the next message of that name."""
        while event := await self.receive():
            if event["event"] == name:
                return event
        raise AssertionError(f"The stream ended without {name}.")

    async def drain(self) -> None:
        """Receive until the stream is closed."""
        while await self.receive():
            pass

    async def send(self, event: str, **body: Any) -> None:
        await self.ws.send_str(json.dumps({"event": event, "streamSid": self.stream_sid, **body}))

    async def play(self, audio: bytes, mark: str = "") -> None:
        payload = base64.b64encode(audio).decode()
        await self.send("media", media={"payload": payload})
        if mark:
            await self.send("mark", mark={"name": mark})

    def heard(self) -> list[bytes]:
        return [
            base64.b64decode(event["media"]["payload"])
            for event in self.received
            if event["event"] == "media"
        ]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.received if event["event"] == name]


class Customer:
    """Responds to every POST with the TwiML set for its path; ``talk`` is its side of a stream."""

    def __init__(self) -> None:
        self.twiml: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.sockets: list[Socket] = []
        self.talk: Talk = Socket.drain
        self.answer_gate = asyncio.Event()
        self.answer_gate.set()
        self.base = ""

    @property
    def voice_url(self) -> str:
        return f"{self.base}/voice"

    @property
    def media_url(self) -> str:
        return self.base.replace("http", "ws") + "/media"

    def says(self, twiml: str, path: str = "/voice") -> None:
        self.twiml[path] = f"<Response>{twiml}</Response>"

    def connects(self, *, action: str = "/after", parameters: str = "", after: str = "") -> None:
        """Respond with a stream to this server."""
        self.says(
            f'<Connect action="{action}"><Stream url="{self.media_url}" '
            f'statusCallback="/stream-status">{parameters}</Stream></Connect>{after}'
        )
        self.says("<Hangup/>", "/after")

    def to(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.files:
            return web.Response(body=self.files[request.path])
        if request.headers.get("Upgrade") == "websocket":
            return await self._take_stream(request)
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append(
            Request(
                request.path,
                wire_url(request),
                form,
                request.headers.get("X-Twilio-Signature"),
                request.headers.get("I-Twilio-Idempotency-Token"),
            )
        )
        await self.answer_gate.wait()
        if request.path not in self.twiml:
            return web.Response(status=404 if request.path.startswith("/no-") else 204)
        return web.Response(text=self.twiml[request.path], content_type="text/xml")

    async def _take_stream(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/media":
            return web.Response(status=404)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        url = wire_url(request).replace("http", "ws", 1)
        socket = Socket(ws, url, request.headers.get("X-Twilio-Signature"))
        self.sockets.append(socket)
        await self.talk(socket)
        await ws.close()
        return ws


def key_tone(key: str, milliseconds: int = 100) -> bytes:
    """Return the sound of a key."""
    low, high = KEY_TONES[key]
    return bytes(
        to_mulaw(
            round(
                8_000 * math.sin(2 * math.pi * low * i / 8_000)
                + 8_000 * math.sin(2 * math.pi * high * i / 8_000)
            )
        )
        for i in range(milliseconds * 8)
    )


async def ended(call: Call) -> Call:
    """Return the call when it is over and every request about it was made."""
    await call.ended()
    return call


def wire_url(request: web.Request) -> str:
    """Return the URL as it was sent: aiohttp would quote it again."""
    return f"{request.scheme}://{request.host}{request.raw_path}"


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """Serve every path with the handler on a free port; yield the base URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with running(app) as base:
        yield base


@asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[str]:
    """Run the application on a free port; yield the base URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
