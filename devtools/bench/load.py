"""The two ends of a relay, in one process: callers, and a model that echoes.

Every caller sends a frame every 20 ms, by the clock and not by the responses. The frames of all
callers are spread over those 20 ms. Callers start one after the other, within a second, so that not
all calls do in the same moment what they do once a second, such as marks. The model returns the
audio of each frame as a delta of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

from devtools.attack import certificates
from devtools.bench import frames

FRAME_S = 0.020
# Callers take turns within the 20 ms: one turn each millisecond.
TURNS = 20
# All callers speak from this frame on.
_ALL_SPEAK = 50
_CONNECT_AT_ONCE = 20
_HEARD_WITHIN_S = 20.0

TEXT = WSMsgType.TEXT


@dataclass(slots=True)
class Tally:
    """The results for frames sent within a window (microseconds, see :func:`now`)."""

    window: tuple[int, int] = (0, 0)
    sent: int = 0
    damaged: int = 0
    out_of_order: int = 0
    #: One for each frame that returned.
    round_trips: list[int] = field(default_factory=list)
    #: The longest time that a caller heard nothing.
    longest_gap: int = 0
    #: How late the load itself was, one for each millisecond.
    lateness: list[int] = field(default_factory=list)

    def covers(self, stamp: int) -> bool:
        begin, end = self.window
        return begin <= stamp < end


class Caller(WSListener):
    """A call's media stream, from Twilio's side."""

    def __init__(self, call: int, tally: Tally) -> None:
        self.call = call
        self.transport: WSTransport  # once connected
        self.hears_itself = asyncio.Event()
        self.tail = frames.media_tail(call)
        self._audio = frames.audio_of(call)
        self._tally = tally
        # All audio messages have one size, and the audio one place in them: learned from the first.
        self._size = 0
        self._at = 0
        self._last = 0
        self._heard = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        transport.send(TEXT, frames.connected())
        transport.send(TEXT, frames.start(self.call))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.payload_size != self._size and not self._learnt(transport, frame):
            return
        text = frame.get_payload_as_bytes()
        audio = self._at + frames.STAMP
        stamp = int(text[self._at : audio])
        tally = self._tally
        came, before = now(), self._heard
        self._heard = came
        if not tally.covers(stamp):
            return
        tally.round_trips.append(came - stamp)
        tally.longest_gap = max(tally.longest_gap, came - before)
        if text[audio : audio + len(self._audio)] != self._audio:
            tally.damaged += 1
        if stamp < self._last:
            tally.out_of_order += 1
        self._last = stamp

    def _learnt(self, transport: WSTransport, frame: WSFrame) -> bool:
        """Return True if this is audio; handle anything else."""
        if frame.msg_type != TEXT:
            return False
        text = frame.get_payload_as_bytes()
        if (at := text.find(self._audio)) >= 0:
            self._size = frame.payload_size
            self._at = at - frames.STAMP
            self.hears_itself.set()
            return True
        if text.startswith(b'{"event":"mark"'):
            # Played on arrival: the echo arrives at the pace of speech.
            name = json.loads(text)["mark"]["name"]
            transport.send(TEXT, frames.mark(self.call, name))
        return False


class Model(WSListener):
    """A realtime session that says what it hears."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._head = frames.delta_head(number)
        self._size = 0
        self._at = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(TEXT, frames.session_created(self._number))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.payload_size != self._size and not self._learnt(transport, frame):
            return
        text = frame.get_payload_as_bytes()
        audio = text[self._at : self._at + frames.PAYLOAD]
        transport.send(TEXT, self._head + audio + b'"}')

    def _learnt(self, transport: WSTransport, frame: WSFrame) -> bool:
        """Return True if this is audio; handle anything else."""
        if frame.msg_type != TEXT:
            return False
        text = frame.get_payload_as_bytes()
        # The engine's message, or the caller's own from the bare relay.
        for key in (b'"audio":"', b'"payload":"'):
            head, found, rest = text.partition(key)
            if found and rest.find(b'"') == frames.PAYLOAD:
                self._size = frame.payload_size
                self._at = len(head) + len(key)
                return True
        if text.startswith(b'{"type":"session.update"'):
            transport.send(TEXT, frames.session_updated(self._number))
        return False


class ModelServer:
    """Answers every connection with a model.

    :param folder: the certificates for TLS; without one, there is no TLS.
    """

    def __init__(
        self, model: Callable[[int], Model] = Model, *, folder: Path | None = None
    ) -> None:
        self._model = model
        self._tls = certificates.server_context(folder) if folder else None
        self._server: asyncio.Server
        self._sessions = itertools.count(1)

    async def __aenter__(self) -> ModelServer:
        self._server = await ws_create_server(
            lambda request: self._model(next(self._sessions)),
            "127.0.0.1",
            0,
            backlog=1024,
            ssl=self._tls,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        way = "wss://localhost" if self._tls else "ws://127.0.0.1"
        return f"{way}:{self.port}/v1/realtime"


class Callers:
    """Calls through one relay, from the first word until they hang up."""

    def __init__(self, calls: int) -> None:
        self.tally = Tally()
        self._callers = [Caller(call, self.tally) for call in range(calls)]
        self._connected: list[Caller] = []

    async def call(self, port: int) -> None:
        """Connect every call; return when each caller hears itself. Raises OSError."""
        url = f"ws://127.0.0.1:{port}/media"
        for first in range(0, len(self._callers), _CONNECT_AT_ONCE):
            batch = self._callers[first : first + _CONNECT_AT_ONCE]
            await asyncio.gather(*(self._connect(caller, url) for caller in batch))
        with self.speaking():
            async with asyncio.timeout(_HEARD_WITHIN_S):
                await asyncio.gather(*(caller.hears_itself.wait() for caller in self._callers))

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Let all callers speak: 50 frames a second each."""
        task = asyncio.create_task(self._speak())
        try:
            yield
        finally:
            task.cancel()

    async def hang_up(self) -> None:
        for caller in self._connected:
            caller.transport.disconnect(graceful=False)
            await caller.transport.wait_disconnected()

    async def _connect(self, caller: Caller, url: str) -> None:
        await ws_connect(lambda: caller, url, websocket_handshake_timeout=_HEARD_WITHIN_S)
        self._connected.append(caller)

    async def _speak(self) -> None:
        """Send every caller's frames. Deadlines are absolute, so delays are caught up."""
        turns = [self._connected[turn::TURNS] for turn in range(TURNS)]
        begin = now()
        for tick in itertools.count():
            due = begin + tick * round(FRAME_S / TURNS * 1e6)
            await asyncio.sleep(max(0, due - now()) / 1e6)
            if self.tally.covers(due):
                self.tally.lateness.append(now() - due)
            number, turn = divmod(tick, TURNS)
            head = frames.media_head(number)
            callers = turns[turn]
            for caller in callers[: len(callers) * (number + 1) // _ALL_SPEAK]:
                stamp = now()
                if self.tally.covers(stamp):
                    self.tally.sent += 1
                caller.transport.send(TEXT, b"%b%016d%b" % (head, stamp, caller.tail))


def now() -> int:
    """Return microseconds of the monotonic clock."""
    return time.monotonic_ns() // 1000
