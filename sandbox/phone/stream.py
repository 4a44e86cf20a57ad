"""A media stream: the websocket that carries a call's audio to the customer and back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import struct
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSMsgType

from sandbox.phone.clock import Clock
from sandbox.phone.faults import NO_FAULTS, Faults
from sandbox.phone.identity import new_sid
from sandbox.phone.journal import Journal
from sandbox.phone.line import Line
from sandbox.phone.webhooks import Webhooks
from sandbox.speech import FRAME_MS, SILENCE

HANDSHAKE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
_CLOSED_BY = {WSMsgType.CLOSE: "product", WSMsgType.CLOSING: "carrier"}


class StreamError(Exception):
    """The stream failed; ``code`` is Twilio's."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


class MediaStream:
    """Speaks Twilio's media stream protocol for one call.

    The line passes it 20 ms at a time; audio in return goes to the line's playback.
    """

    def __init__(
        self,
        *,
        account_sid: str,
        call_sid: str,
        url: str,
        parameters: dict[str, str],
        line: Line,
        clock: Clock,
        journal: Journal,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.sid = new_sid("MZ")
        self.url = url
        self.error = ""
        self._account_sid = account_sid
        self._call_sid = call_sid
        self.parameters = parameters
        self._line = line
        self._clock = clock
        self._journal = journal
        self._faults = faults
        self._sequence = 0
        self._chunk = 0
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue()
        self._closed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, session: aiohttp.ClientSession, webhooks: Webhooks) -> None:
        """Connect and send the start message; raise :class:`StreamError` after a refusal."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss"):
            raise StreamError(31920, f"{self.url!r} is no websocket's address")
        if parts.query:
            raise StreamError(31920, f"{self.url} has a query string: use <Parameter>")
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                self._socket = await session.ws_connect(
                    self.url,
                    headers=webhooks.signature_headers(self.url),
                    max_msg_size=0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise StreamError(31920, f"{self.url} answered {error.status}, not 101") from None
        except (aiohttp.ClientError, aiohttp.InvalidURL, TimeoutError) as error:
            raise StreamError(31901, f"{self.url} cannot be reached: {error}") from None
        self._journal.add("stream-connected", url=self.url, stream_sid=self.sid)
        self._introduce()
        self._tasks = [
            asyncio.create_task(self._write()),
            asyncio.create_task(self._read()),
        ]
        if self._faults.socket_dropped_after is not None:
            self._tasks.append(asyncio.create_task(self._drop()))

    async def closed(self) -> None:
        """Return when the other side has closed the socket, or it broke (see ``error``)."""
        await self._closed.wait()

    async def stop(self) -> None:
        """Send the stop message and close the socket, unless it is closed."""
        if not self._closed.is_set():
            self.send("stop", stop={"accountSid": self._account_sid, "callSid": self._call_sid})
        self._outbox.put_nowait(None)
        await asyncio.wait(self._tasks[:1], timeout=CLOSE_TIMEOUT_S)
        await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def take(self, frame: bytes, marks: list[str]) -> None:
        """Send 20 ms of the caller's audio, after the marks that the playback has passed."""
        for name in marks:
            self._return_mark(name, cleared=False)
        self._chunk += 1
        self.send(
            "media",
            media={
                "track": "inbound",
                "chunk": str(self._chunk),
                "timestamp": str(self._chunk * FRAME_MS),
                "payload": base64.b64encode(frame).decode(),
            },
        )

    def press(self, digit: str) -> None:
        self.send("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def send(self, event: str, **body: Any) -> None:
        """Queue a message. A test may send what no carrier would."""
        self._sequence += 1
        message = {
            "event": event,
            "sequenceNumber": str(self._sequence),
            **body,
            "streamSid": self.sid,
        }
        self._outbox.put_nowait(json.dumps(message, separators=(",", ":")))

    def _introduce(self) -> None:
        connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        self._outbox.put_nowait(json.dumps(connected, separators=(",", ":")))
        if self._faults.media_before_start:
            self.take(SILENCE, [])
        self.send(
            "start",
            start={
                "accountSid": self._account_sid,
                "streamSid": self.sid,
                "callSid": self._call_sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": self.parameters,
            },
        )

    async def _write(self) -> None:
        while (message := await self._outbox.get()) is not None:
            try:
                if self._faults.fragments > 1:
                    self._write_fragments(message.encode())
                else:
                    await self._socket.send_str(message)
            except aiohttp.ClientConnectionResetError:
                return  # the reader reports why

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                self._obey(message.data)
            elif message.type is WSMsgType.BINARY:
                self._refuse(31924, "a binary message")
            else:
                break
            if self._faults.read_delay:
                await self._clock.sleep(self._faults.read_delay)
        self._note_the_end(message.type)

    def _note_the_end(self, kind: WSMsgType) -> None:
        """Note which side closed the socket: the customer or we, or neither if it broke."""
        by = _CLOSED_BY.get(kind, "nobody")
        self._journal.add("stream-closed", by=by)
        if by == "nobody":
            message = "Stream - WebSocket - Close Error: the connection broke"
            self._journal.add("error", code=31921, message=message)
            self.error = f"31921: {message}"
        self._closed.set()

    def _obey(self, text: str) -> None:
        try:
            message = json.loads(text)
            if message["streamSid"] != self.sid:
                raise ValueError("the streamSid is another's")
            match message["event"]:
                case "media":
                    audio = base64.b64decode(message["media"]["payload"], validate=True)
                    self._line.playback.add(audio)
                case "mark":
                    self._line.playback.mark(str(message["mark"]["name"]))
                case "clear":
                    self._clear()
                case event:
                    raise ValueError(f"the event {event!r} is unknown")
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            self._refuse(31951, f"{type(error).__name__}: {error}")

    def _clear(self) -> None:
        dropped_ms, marks = self._line.drop_playback()
        self._journal.add("clear", dropped_ms=dropped_ms, marks=len(marks))
        for name in marks:
            self._return_mark(name, cleared=True)

    def _return_mark(self, name: str, *, cleared: bool) -> None:
        self._journal.add("mark", name=name, cleared=cleared)
        if not self._faults.marks_lost:
            self.send("mark", mark={"name": name})

    def _refuse(self, code: int, why: str) -> None:
        self._journal.add("error", code=code, message=f"Stream - Protocol - Invalid message: {why}")

    async def _drop(self) -> None:
        await self._clock.sleep(self._faults.socket_dropped_after or 0)
        self.drop()

    def drop(self) -> None:
        """Lose the connection without a word, as a network does."""
        self._journal.add("socket-dropped")
        self._transport.abort()

    @property
    def _transport(self) -> asyncio.Transport:
        connection = self._socket._response.connection  # private in aiohttp, but faults need it
        assert connection is not None  # noqa: S101 (for the types)
        transport = connection.transport
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (for the types)
        return transport

    def _write_fragments(self, payload: bytes) -> None:
        """Send one text message in many frames, which aiohttp does not offer."""
        size = -(-len(payload) // self._faults.fragments)
        pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
        for index, piece in enumerate(pieces):
            opcode = WSMsgType.TEXT if index == 0 else WSMsgType.CONTINUATION
            final = 0x80 if index == len(pieces) - 1 else 0
            self._transport.write(_masked_frame(final | opcode, piece))


def _masked_frame(first_byte: int, payload: bytes) -> bytes:
    """Return a client's websocket frame of less than 64 KiB (RFC 6455, 5.2)."""
    length = len(payload)
    header = (
        bytes((first_byte, 0x80 | length))
        if length < 126
        else struct.pack("!BBH", first_byte, 0x80 | 126, length)
    )
    mask = secrets.token_bytes(4)
    return header + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
