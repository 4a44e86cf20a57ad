"""Webhooks and media sockets by hand, as Twilio sends them, or others in its place."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
import xml.etree.ElementTree as ET  # nosec B405 # reads the product's own TwiML
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from twilio.request_validator import RequestValidator

from devtools.attack.internet import EARS, Desk
from devtools.attack.product import MEDIA
from devtools.attack.web import Answer, Client
from telephony.engine.after_stream import APOLOGY

ENGINE_URL = "https://engine.example.com"
MEDIA_URL = "wss://media.example.com/media"
CALLER = "+14152230123"
FRAME_S = 0.02
_SILENCE = "/" * 212 + "w=="  # 160 bytes of mu-law


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    sid: str = field(default_factory=lambda: f"AC{secrets.token_hex(16)}")
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def sign(self, url: str, form: Mapping[str, str]) -> str:
        return str(RequestValidator(self.token).compute_signature(url, dict(form)))


def new_call_sid() -> str:
    return f"CA{secrets.token_hex(16)}"


def plan(account: TwilioAccount, desk: Desk | None = None, **changes: Any) -> dict[str, Any]:
    """Return a backend's usual response to onCallStart; the model only listens."""
    tools = [{"type": "function", "name": "look_up", "parameters": {"type": "object"}}]
    return {
        "twilioAccountSid": account.sid,
        "twilioAuthToken": account.token,
        "openaiApiKey": f"sk-attack-{secrets.token_hex(16)}",
        "systemPrompt": "Be brief.",
        "model": EARS,
        "inactivityTimeoutMs": 3_600_000,
        **({"tools": tools, "onToolCallUrl": desk.tool_url} if desk else {}),
        **changes,
    }


async def ring(
    engine: Client,
    *,
    to: str,
    account: TwilioAccount,
    call_sid: str = "",
    caller: str = CALLER,
    signature: str | None = None,
    path: str = "/voice",
    patience: float = 30.0,
    **fields: str,
) -> Answer:
    """Post a call's first webhook, with Twilio's signature unless another one is given."""
    form = {
        "CallSid": call_sid or new_call_sid(),
        "AccountSid": account.sid,
        "From": caller,
        "To": to,
        "Direction": "inbound",
        "CallStatus": "ringing",
        "ApiVersion": "2010-04-01",
        **fields,
    }
    return await post(engine, path, form, account, signature=signature, patience=patience)


async def post(
    engine: Client,
    path: str,
    form: Mapping[str, str],
    account: TwilioAccount | None = None,
    *,
    signature: str | None = None,
    patience: float = 30.0,
) -> Answer:
    """POST a form, signed for the account; an empty signature sends none."""
    if signature is None:
        signature = account.sign(ENGINE_URL + path, form) if account else ""
    headers = {"X-Twilio-Signature": signature} if signature else {}
    return await engine.ask("POST", path, form=form, headers=headers, patience=patience)


@dataclass(frozen=True, slots=True)
class Twiml:
    """The product's instructions for a call."""

    verbs: list[str]
    ticket: str = ""
    links: dict[str, str] = field(default_factory=dict)
    is_well_formed: bool = True

    @property
    def connects(self) -> bool:
        return "Stream" in self.verbs


def is_apology(answer: Answer) -> bool:
    """Return True if the engine could not serve the call, for example because it was too busy.

    Then it has done nothing that the customer's backend asked for.
    """
    return APOLOGY.encode() in answer.body


def read(answer: Answer) -> Twiml:
    """Parse TwiML; a response without TwiML has no verbs."""
    if not answer.body.lstrip().startswith(b"<"):
        return Twiml([])
    try:
        root = ET.fromstring(answer.body)  # noqa: S314 # nosec B314 # as above
    except ET.ParseError:
        return Twiml(re.findall(r"<(\w+)", answer.text), is_well_formed=False)
    verbs = [element.tag for element in root.iter() if element is not root]
    parameter, stream, connect = (
        root.find(".//Parameter"),
        root.find(".//Stream"),
        root.find(".//Connect"),
    )
    links = {}
    if stream is not None:
        links["stream"] = path_of(stream.get("statusCallback", ""))
    if connect is not None:
        links["after"] = path_of(connect.get("action", ""))
    return Twiml(verbs, parameter.get("value", "") if parameter is not None else "", links)


async def answer_outbound(
    engine: Client, order: Mapping[str, str], account: TwilioAccount, **fields: str
) -> Answer:
    """Report that the callee of an order has answered."""
    form = {
        "CallSid": order["CallSid"],
        "AccountSid": account.sid,
        "From": order["From"],
        "To": order["To"],
        "Direction": "outbound-api",
        "CallStatus": "in-progress",
        **fields,
    }
    return await post(engine, path_of(order["Url"]), form, account)


def path_of(url: str) -> str:
    return url.removeprefix(ENGINE_URL)


def start_message(
    account: TwilioAccount, call_sid: str, ticket: str, **changes: Any
) -> dict[str, Any]:
    stream_sid = f"MZ{secrets.token_hex(16)}"
    start = {
        "streamSid": stream_sid,
        "accountSid": account.sid,
        "callSid": call_sid,
        "tracks": ["inbound"],
        "customParameters": {"ticket": ticket},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        **changes,
    }
    return {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": stream_sid}


def media_message(payload: str = _SILENCE) -> dict[str, Any]:
    return {"event": "media", "media": {"track": "inbound", "payload": payload}}


async def open_media(
    session: aiohttp.ClientSession,
    account: TwilioAccount | None = None,
    *,
    port: int = MEDIA,
    path: str = "/media",
) -> aiohttp.ClientWebSocketResponse:
    """Open a media socket, with Twilio's signature if an account is given."""
    headers = {"Host": "media.example.com", "X-Forwarded-Proto": "https"}
    if account:
        headers["X-Twilio-Signature"] = account.sign(MEDIA_URL, {})
    return await session.ws_connect(
        f"http://127.0.0.1:{port}{path}",
        headers=headers,
        compress=0,
        max_msg_size=0,
        timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
    )


@dataclass
class LiveCall:
    """A call with a media socket, on which the caller is silent."""

    account: TwilioAccount
    call_sid: str
    links: dict[str, str]
    socket: aiohttp.ClientWebSocketResponse
    opened: float = field(default_factory=time.monotonic)
    closed: float | None = None
    frame_every: float = FRAME_S
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def connect(
        cls,
        session: aiohttp.ClientSession,
        account: TwilioAccount,
        call_sid: str,
        told: Twiml,
        *,
        frame_every: float = FRAME_S,
        **options: Any,
    ) -> LiveCall:
        """Open the socket of an accepted call, with a silent caller."""
        socket = await open_media(session, account, **options)
        connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        await socket.send_str(orjson.dumps(connected).decode())
        start = start_message(account, call_sid, told.ticket)
        await socket.send_str(orjson.dumps(start).decode())
        call = cls(account, call_sid, dict(told.links), socket, frame_every=frame_every)
        call._tasks = [asyncio.create_task(call._talk()), asyncio.create_task(call._listen())]
        return call

    @property
    def is_open(self) -> bool:
        return self.closed is None

    @property
    def seconds(self) -> float:
        """Return how long the socket has been, or was, open."""
        return (self.closed or time.monotonic()) - self.opened

    async def hang_up(self) -> None:
        """End the stream as Twilio does when the caller hangs up."""
        if self.is_open:
            self.closed = time.monotonic()
            with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
                stop = {"event": "stop", "stop": {"callSid": self.call_sid}}
                await self.socket.send_str(orjson.dumps(stop).decode())
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(OSError, TimeoutError):
            await self.socket.close()

    async def press(self, digits: str) -> None:
        """Press keys on the caller's phone."""
        for digit in digits:
            message = {"event": "dtmf", "dtmf": {"track": "inbound_track", "digit": digit}}
            await self.socket.send_json(message)

    async def _talk(self) -> None:
        frame = orjson.dumps(media_message()).decode()
        due = time.monotonic()
        with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
            while self.is_open:
                await self.socket.send_str(frame)
                due += self.frame_every
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _listen(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
            async for message in self.socket:
                if '"mark"' in str(message.data)[:20]:  # the audio was played
                    await self.socket.send_str(message.data)
        self.closed = self.closed or time.monotonic()
