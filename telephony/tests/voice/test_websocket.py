"""Real sockets on both sides. Where picows is too polite, the test writes the frames itself."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import socket as sockets
import ssl
import struct
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from telephony.voice import websocket
from telephony.voice.websocket import (
    ConnectFailed,
    Handler,
    Limits,
    Listener,
    Socket,
    connect,
    listen,
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
CANARY = "sk-canary"
DEFAULT = Limits()
QUICK = Limits(idle=0.05, ping_answer=0.05)

T = TypeVar("T")


async def soon(awaitable: Awaitable[T]) -> T:
    """Wait for something that must happen; fail if it does not."""
    return await asyncio.wait_for(awaitable, 30)


async def until(condition: Callable[[], bool]) -> None:
    """Poll for a change that nothing reports."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (nobody is told of it)
            await asyncio.sleep(0)


class Recorder(Handler):
    """Records the calls of its methods."""

    def __init__(self) -> None:
        self.socket: Socket
        self.opened = asyncio.Event()
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.blocked = asyncio.Event()
        self.unblocked = asyncio.Event()
        self.closes: list[tuple[int, str]] = []
        self.closed = asyncio.Event()

    def on_open(self, socket: Socket) -> None:
        self.socket = socket
        self.opened.set()

    def on_message(self, text: bytes) -> None:
        self.messages.put_nowait(text)

    def on_blocked(self) -> None:
        self.blocked.set()

    def on_unblocked(self) -> None:
        self.unblocked.set()

    def on_close(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))
        self.closed.set()

    async def message(self) -> bytes:
        return await soon(self.messages.get())

    async def end(self) -> tuple[int, str]:
        """Return how the socket ended, once nothing more can come."""
        await soon(self.closed.wait())
        await settled()
        assert len(self.closes) == 1
        assert not self.socket.is_open
        return self.closes[0]


async def settled() -> None:
    """Let the event loop run everything that is due."""
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def listening(
    handler: Handler | None, *, limits: Limits = DEFAULT
) -> AsyncIterator[Listener]:
    """Serve one handler at every path."""
    listener = await listen("127.0.0.1", 0, lambda path, headers: handler, limits=limits)
    try:
        yield listener
    finally:
        listener.close()


async def connected(
    port: int, handler: Handler, *, path: str = "/", limits: Limits = DEFAULT
) -> Socket:
    return await connect(
        f"ws://127.0.0.1:{port}{path}", headers={}, handler=handler, timeout=5, limits=limits
    )


class Raw:
    """A peer that sends whatever it is told, valid or not."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.is_client = is_client

    @classmethod
    async def client(cls, port: int, *, request: bytes | None = None) -> Raw:
        """Connect and, unless given another request, upgrade."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request or upgrade_request())
        raw = cls(reader, writer, is_client=True)
        if request is None:
            assert b" 101 " in await raw.head()
        return raw

    async def head(self) -> bytes:
        return await soon(self.reader.readuntil(b"\r\n\r\n"))

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        self.writer.write(frame(opcode, payload, fin=fin, masked=self.is_client))

    async def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        first, second = await soon(self.reader.readexactly(2))
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await soon(self.reader.readexactly(2)))
        elif size == 127:
            (size,) = struct.unpack("!Q", await soon(self.reader.readexactly(8)))
        mask = await soon(self.reader.readexactly(4)) if second & 0x80 else b"\0\0\0\0"
        masked = await soon(self.reader.readexactly(size))
        return first & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(masked))

    async def close_code(self) -> int:
        """Return the code of the close that has to come next."""
        opcode, payload = await self.receive()
        assert opcode == CLOSE
        return int.from_bytes(payload[:2], "big")

    def reset(self) -> None:
        """Break the connection as a crash would."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the other side has hung up, perhaps before it has read everything."""
        with suppress(ConnectionResetError):
            await soon(self.reader.read())
        self.writer.close()


def frame(opcode: int, payload: bytes, *, fin: bool, masked: bool) -> bytes:
    size = len(payload)
    if size < 126:
        length = struct.pack("!B", size | masked << 7)
    elif size < 1 << 16:
        length = struct.pack("!BH", 126 | masked << 7, size)
    else:
        length = struct.pack("!BQ", 127 | masked << 7, size)
    mask = b"\0\0\0\0" if masked else b""
    return bytes([fin << 7 | opcode]) + length + mask + payload


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack("!H", code) + reason.encode()


def upgrade_request(
    start: str = "GET /media HTTP/1.1", *, without: str = "", **changed: str
) -> bytes:
    headers = {
        "Host": "engine",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    headers.pop(without, None)
    lines = [start, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def upgrade_answer(request: bytes) -> bytes:
    lines = request.decode().split("\r\n")
    key = next(line.partition(": ")[2] for line in lines if line.startswith("Sec-WebSocket-Key"))
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324
    accept = base64.b64encode(digest).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"X-Request-Id: req_1\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


@asynccontextmanager
async def answering(
    talk: Callable[[Raw], Awaitable[None]], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve each connection with ``talk``; give the port."""
    talks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await talk(Raw(reader, writer, is_client=False))
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
        await soon(asyncio.gather(*talks))
    finally:
        for talk_ in talks:
            talk_.cancel()
        server.close()


# A whole connection


async def test_it_works() -> None:
    server, client = Recorder(), Recorder()
    asked: list[tuple[str, Mapping[str, str]]] = []

    def accept(path: str, headers: Mapping[str, str]) -> Handler:
        asked.append((path, headers))
        return server

    listener = await listen("127.0.0.1", 0, accept)
    socket = await connect(
        f"ws://127.0.0.1:{listener.port}/media?model=m",
        headers={"Authorization": f"Bearer {CANARY}"},
        handler=client,
        timeout=5,
    )
    await soon(server.opened.wait())
    assert client.socket is socket
    assert server.socket.path == asked[0][0] == "/media?model=m"
    assert server.socket.headers["authorization"] == f"Bearer {CANARY}"
    assert listener.open_sockets == 1

    for text in (b"short", b"m" * 400, b"long" * 20_000):
        socket.send(text)
        assert await server.message() == text
        server.socket.send(text)
        assert await client.message() == text

    socket.close(1000, "goodbye")
    assert await client.end() == await server.end() == (1000, "goodbye")
    assert listener.open_sockets == 0
    listener.close()


async def test_close_by_the_server() -> None:
    server, client = Recorder(), Recorder()
    async with listening(server) as listener:
        await connected(listener.port, client)
        await soon(server.opened.wait())
        server.socket.send(b"last words")
        server.socket.close(4001, "done")
        assert await client.message() == b"last words"
        assert await client.end() == await server.end() == (4001, "done")


async def test_the_answer_headers_are_the_clients() -> None:
    async def talk(raw: Raw) -> None:
        raw.writer.write(upgrade_answer(await raw.head()))
        assert await raw.close_code() == 1000
        raw.send(CLOSE, close_payload(1000))

    async with answering(talk) as port:
        client = Recorder()
        socket = await connected(port, client)
        assert socket.headers["x-request-id"] == "req_1"
        socket.close()
        assert await client.end() == (1000, "")


# Messages


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_fragments_are_joined(opcode: int) -> None:
    server = Recorder()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        raw.send(opcode, b"one ", fin=False)
        raw.send(CONTINUATION, b"two ", fin=False)
        raw.send(PING, b"in between")
        raw.send(CONTINUATION, b"", fin=False)
        raw.send(CONTINUATION, b"three")
        raw.send(TEXT, b"whole")
        assert await raw.receive() == (PONG, b"in between")
        assert await server.message() == b"one two three"
        assert await server.message() == b"whole"
        raw.reset()
        await server.end()


@pytest.mark.parametrize(
    "frames",
    [
        [(TEXT, b"x" * 1001, True)],
        [(TEXT, b"x" * 600, False), (CONTINUATION, b"x" * 401, True)],
        [(TEXT, b"x" * 600, False), (CONTINUATION, b"x" * 401, False)],
    ],
)
async def test_too_much(frames: list[tuple[int, bytes, bool]]) -> None:
    server = Recorder()
    async with listening(server, limits=Limits(message=1000)) as listener:
        raw = await Raw.client(listener.port)
        raw.send(TEXT, b"y" * 1000)
        assert await server.message() == b"y" * 1000
        for opcode, payload, fin in frames:
            raw.send(opcode, payload, fin=fin)
        raw.send(TEXT, b"too late")
        assert await raw.close_code() == 1009
        raw.send(CLOSE, close_payload(1009))
        await raw.gone()
        assert (await server.end())[0] == 1009
        assert server.messages.empty()


@pytest.mark.parametrize(
    "frames",
    [
        frame(CONTINUATION, b"of nothing", fin=True, masked=True),
        frame(TEXT, b"one", fin=False, masked=True) + frame(TEXT, b"two", fin=True, masked=True),
        frame(TEXT, b"not masked", fin=True, masked=False),
        frame(5, b"unknown opcode", fin=True, masked=True),
        frame(PING, b"in parts", fin=False, masked=True),
        frame(CLOSE, close_payload(1), fin=True, masked=True),
    ],
)
async def test_protocol_errors(frames: bytes) -> None:
    server = Recorder()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        raw.writer.write(frames)
        assert await raw.close_code() == 1002
        raw.send(CLOSE, close_payload(1002))
        await raw.gone()
        assert (await server.end())[0] == 1002
        assert server.messages.empty()


class Relaying(Recorder):
    """Sends messages that begin with "audio" back, without being told of them."""

    def __init__(self) -> None:
        super().__init__()
        self.offered: list[bytes] = []

    def on_open(self, socket: Socket) -> None:
        super().on_open(socket)
        socket.relay_to(socket, self.relay)

    def relay(self, text: bytes) -> bytes | None:
        self.offered.append(text)
        if text == b"audio out of tune":
            raise ValueError(CANARY)
        return b"again: " + text if text.startswith(b"audio") else None


async def test_a_relay_passes_messages_on() -> None:
    server = Relaying()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        raw.send(TEXT, b"audio 1")
        assert await raw.receive() == (TEXT, b"again: audio 1")
        raw.send(TEXT, b"other")
        raw.send(TEXT, b"audio in ", fin=False)
        raw.send(CONTINUATION, b"pieces")
        assert await server.message() == b"other"
        assert await server.message() == b"audio in pieces"
        assert server.offered == [b"audio 1", b"other", b"pieces"]

        server.socket.close()
        raw.send(TEXT, b"audio, too late")
        raw.send(CLOSE, close_payload(1000))
        await raw.gone()
        assert await server.end() == (1000, "")
        assert len(server.offered) == 3
        assert server.messages.empty()


async def test_a_socket_that_is_closed_relays_nothing() -> None:
    server, relayed = Recorder(), asyncio.Queue[bytes]()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        server.socket.close()
        server.socket.relay_to(server.socket, relayed.put_nowait)
        raw.send(TEXT, b"audio that was on its way")
        raw.send(CLOSE, close_payload(1000))
        await raw.gone()
        await server.end()
    assert relayed.empty()


async def test_a_relay_can_be_undone() -> None:
    server = Relaying()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        raw.send(TEXT, b"audio 1")
        assert await raw.receive() == (TEXT, b"again: audio 1")
        server.socket.relay_nothing()
        raw.send(TEXT, b"audio 2")
        assert await server.message() == b"audio 2"
        server.socket.close()
        raw.send(CLOSE, close_payload(1000))
        await raw.gone()


async def test_the_handler_of_an_abandoned_socket_hears_no_more_of_it() -> None:
    server = Relaying()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        server.socket.abandon()
        raw.send(TEXT, b"other")
        raw.send(TEXT, b"audio, too late")
        opcode, payload = await raw.receive()
        assert (opcode, payload) == (CLOSE, close_payload(1000))
        raw.send(CLOSE, close_payload(1000))
        await raw.gone()
        await settled()
    assert (server.closes, server.offered, server.messages.empty()) == ([], [], True)


async def test_a_relay_fails(caplog: pytest.LogCaptureFixture) -> None:
    server = Relaying()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        raw.send(TEXT, b"audio out of tune")
        raw.send(TEXT, b"audio 2")
        assert await raw.close_code() == 1011
        raw.send(CLOSE, close_payload(1011))
        await raw.gone()
        assert await server.end() == (1011, "")
    assert server.offered == [b"audio out of tune"]
    assert "in relay" in caplog.text
    assert CANARY not in caplog.text


# The end


@pytest.mark.parametrize("how", ["reset", "eof"])
async def test_a_broken_connection(how: str) -> None:
    server = Recorder()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        if how == "reset":
            raw.reset()
        else:
            raw.writer.close()
        assert (await server.end())[0] == 1006
        assert listener.open_sockets == 0


async def test_a_broken_connection_while_sending() -> None:
    server = Recorder()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        raw.reset()
        while not server.closes:
            server.socket.send(b"is anybody there?" * 50)
            await asyncio.sleep(0)
        assert (await server.end())[0] == 1006


async def test_sending_into_a_broken_connection_is_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Recorder()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        server.socket.pause_reading()  # so that it is the sending that finds out
        raw.reset()
        await soon(raw.writer.wait_closed())
        for _ in range(20):
            server.socket.send(b"is anybody there?")
        assert (await server.end())[0] == 1006
    assert not caplog.records


@pytest.mark.parametrize(
    ("payload", "code", "reason", "answer"),
    [
        (b"", 1005, "", 1000),
        (close_payload(1001), 1001, "", 1001),
        (close_payload(4000, "because"), 4000, "because", 4000),
    ],
)
async def test_the_peer_closes(payload: bytes, code: int, reason: str, answer: int) -> None:
    server = Recorder()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port)
        raw.send(CLOSE, payload)
        assert await raw.close_code() == answer
        await raw.gone()
        assert await server.end() == (code, reason)


async def test_a_close_without_an_answer() -> None:
    server = Recorder()
    async with listening(server, limits=Limits(close_answer=0.05)) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        server.socket.close(1001, "é" * 100)
        server.socket.close(4000, "only the first counts")
        server.socket.send(b"too late")
        raw.send(TEXT, b"ignored")

        assert not server.socket.is_open
        assert await raw.receive() == (CLOSE, close_payload(1001, "é" * 61))
        assert await server.end() == (1001, "é" * 100)
        assert server.messages.empty()
        assert await soon(raw.reader.read()) == b""
        raw.writer.close()


async def test_a_close_of_a_peer_that_does_not_read() -> None:
    server = Recorder()
    async with listening(server, limits=Limits(close_answer=0.05)) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        block(server)
        server.socket.close()
        assert await server.end() == (1000, "")
        raw.writer.close()


async def test_many_end_while_sending() -> None:
    """Both sides send all the time, and each connection is ended in one of four ways."""
    servers = [Recorder() for _ in range(60)]
    clients = [Recorder() for _ in range(60)]
    listener = await listen("127.0.0.1", 0, lambda path, headers: servers[int(path[1:])])
    await asyncio.gather(
        *(connected(listener.port, client, path=f"/{i}") for i, client in enumerate(clients))
    )
    everybody = [*servers, *clients]
    for round_ in range(20):
        for recorder in everybody:
            recorder.socket.send(b"x" * 300)
        for index in range(round_ * 3, round_ * 3 + 3):
            ends: list[Callable[[], None]] = [
                clients[index].socket.close,
                servers[index].socket.close,
                clients[index].socket._transport.underlying_transport.abort,
                servers[index].socket._transport.underlying_transport.abort,
            ]
            ends[index % 4]()
        await asyncio.sleep(0)
    for recorder in everybody:
        await recorder.end()
    assert listener.open_sockets == 0
    listener.close()


# Pings


async def test_a_silent_peer_is_lost() -> None:
    server = Recorder()
    async with listening(server, limits=QUICK) as listener:
        raw = await Raw.client(listener.port)
        assert (await raw.receive())[0] == PING
        code, reason = await server.end()
        assert code == 1006
        assert "ping" in reason
        raw.writer.close()


async def test_a_silent_server_is_lost() -> None:
    async def talk(raw: Raw) -> None:
        raw.writer.write(upgrade_answer(await raw.head()))
        await soon(raw.reader.read())

    async with answering(talk) as port:
        client = Recorder()
        await connected(port, client, limits=QUICK)
        assert (await client.end())[0] == 1006


@pytest.mark.parametrize("opcode", [PONG, TEXT])
async def test_a_peer_that_answers_stays(opcode: int) -> None:
    """Any frame after a ping shows that the peer is there, pong or not."""
    server = Recorder()
    async with listening(server, limits=QUICK) as listener:
        raw = await Raw.client(listener.port)
        for _ in range(4):
            assert (await raw.receive())[0] == PING
            raw.send(opcode)
        assert server.socket.is_open
        raw.reset()
        await server.end()


async def test_our_own_pause_is_not_the_peers_silence() -> None:
    server = Recorder()
    async with listening(server, limits=QUICK) as listener:
        raw = await Raw.client(listener.port)
        assert (await raw.receive())[0] == PING
        server.socket.pause_reading()
        raw.send(TEXT, b"kept")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.closed.wait(), 5 * (QUICK.idle + QUICK.ping_answer))
        assert server.messages.empty()
        server.socket.resume_reading()
        assert await server.message() == b"kept"
        raw.reset()
        await server.end()


# Backpressure


def block(recorder: Recorder) -> int:
    """Send until the peer does not keep up; return the number of messages."""
    sent = 0
    while not recorder.blocked.is_set():
        recorder.socket.send(f"{sent:08}".encode() * 1000)
        sent += 1
        assert sent < 10_000
    return sent


async def test_backpressure() -> None:
    server, client = Recorder(), Recorder()
    async with listening(server) as listener:
        await connected(listener.port, client)
        await soon(server.opened.wait())
        client.socket.pause_reading()
        sent = block(server)
        assert not server.unblocked.is_set()

        client.socket.resume_reading()
        for index in range(sent):
            assert await client.message() == f"{index:08}".encode() * 1000
        await soon(server.unblocked.wait())
        client.socket.close()
        await server.end()


async def test_a_paused_socket_can_be_closed() -> None:
    server, client = Recorder(), Recorder()
    async with listening(server, limits=Limits(close_answer=60)) as listener:
        await connected(listener.port, client)
        await soon(server.opened.wait())
        server.socket.pause_reading()
        server.socket.close()
        assert await client.end() == await server.end() == (1000, "")


async def test_a_peer_that_pings_and_does_not_read() -> None:
    server = Recorder()
    async with listening(server, limits=Limits(unsent=10_000)) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        transport = server.socket._transport.underlying_transport
        block(server)
        waiting = transport.get_write_buffer_size()
        for number in range(10_000):
            raw.send(PING, f"{number:0125}".encode())
        raw.send(TEXT, b"that was all")
        assert await server.message() == b"that was all"
        assert transport.get_write_buffer_size() == waiting

        pongs = []
        raw.send(PING, b"the end")
        while (received := await raw.receive()) != (PONG, b"the end"):
            pongs += [payload for opcode, payload in [received] if opcode == PONG]
            if server.unblocked.is_set() and not pongs:
                raw.send(PING, b"the end")
        assert pongs[:1] in ([], [f"{9_999:0125}".encode()])
        raw.reset()
        await server.end()


async def test_a_peer_that_breaks_the_protocol_and_does_not_read() -> None:
    server = Recorder()
    async with listening(server, limits=Limits(close_answer=0.05)) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        block(server)
        raw.writer.write(frame(TEXT, b"not masked", fin=True, masked=False))
        await until(lambda: not server.socket.is_open)
        server.socket.close()
        assert (await server.end())[0] == 1002
        raw.writer.close()


# Floods


def is_read(recorder: Recorder) -> bool:
    return bool(recorder.socket._transport.underlying_transport.is_reading())


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG])
async def test_a_peer_that_sends_too_much_waits(opcode: int) -> None:
    server = Recorder()
    async with listening(server, limits=Limits(rate=1000, burst=10)) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        for _ in range(9):
            raw.send(opcode, b"x")
        raw.send(TEXT, b"not too much")
        while await server.message() != b"not too much":
            pass
        assert is_read(server)

        for _ in range(1000):
            raw.send(opcode, b"x")
        await until(lambda: not is_read(server))
        raw.send(TEXT, b"later")
        while await server.message() != b"later":
            pass
        raw.reset()
        await server.end()


async def test_as_many_come_at_once_as_the_burst_says() -> None:
    server = Recorder()
    async with listening(
        server, limits=Limits(rate=0.001, burst=600, close_answer=0.05)
    ) as listener:
        raw = await Raw.client(listener.port)
        for _ in range(600):
            raw.send(TEXT, b"x")
        for _ in range(600):
            await server.message()
        assert is_read(server)
        raw.send(TEXT, b"too much")
        await until(lambda: not is_read(server))
        raw.reset()
        server.socket.close()  # who does not read does not see that the peer is gone
        await server.end()


async def test_a_pause_outlasts_the_wait_for_sending_too_much() -> None:
    server = Recorder()
    async with listening(server, limits=Limits(rate=1000, burst=10)) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        for _ in range(20):
            raw.send(TEXT, b"x")
        await until(lambda: not is_read(server))
        server.socket.pause_reading()
        await until(lambda: not server.socket._side.is_held)
        assert not is_read(server)
        server.socket.resume_reading()
        assert is_read(server)
        raw.reset()
        await server.end()


UNIDENTIFIED = Limits(unidentified=(3, 100), close_answer=0.05)


@pytest.mark.parametrize(
    "frames",
    [
        [(TEXT, b"1", True)] * 4,
        [(PING, b"", True)] * 4,
        [(PONG, b"", True)] * 4,
        [(TEXT, b"", False), *[(CONTINUATION, b"", False)] * 3],
        [(TEXT, b"x" * 101, True)],
        [(BINARY, b"x" * 60, True), (PING, b"x" * 41, True)],
        [(TEXT, b"x" * 60, False), (CONTINUATION, b"x" * 41, False)],
    ],
)
async def test_an_unidentified_peer_that_sends_too_much(
    frames: list[tuple[int, bytes, bool]],
) -> None:
    server = Recorder()
    async with listening(server, limits=UNIDENTIFIED) as listener:
        raw = await Raw.client(listener.port)
        for opcode, payload, fin in frames:
            raw.send(opcode, payload, fin=fin)
        raw.send(TEXT, b"too late")
        while (received := await raw.receive())[0] == PONG:
            pass
        assert received == (
            CLOSE,
            close_payload(1008, "Too much data arrived before the start message."),
        )
        assert not is_read(server)
        assert (await server.end())[0] == 1008
        assert b"too late" not in [
            server.messages.get_nowait() for _ in range(server.messages.qsize())
        ]
        raw.writer.close()


async def test_an_identified_peer_may_send_more() -> None:
    server = Recorder()
    async with listening(server, limits=UNIDENTIFIED) as listener:
        raw = await Raw.client(listener.port)
        for _ in range(3):
            raw.send(TEXT, b"x")
            await server.message()
        server.socket.identified()
        for _ in range(10):
            raw.send(TEXT, b"x" * 100)
            await server.message()
        raw.reset()
        await server.end()


async def test_the_longest_waiting_connection_is_closed_first() -> None:
    handlers = iter(recorders := [Recorder() for _ in range(4)])
    listener = await listen("127.0.0.1", 0, lambda path, headers: next(handlers), most_waiting=2)
    admitted = await Raw.client(listener.port)
    await soon(recorders[0].opened.wait())
    recorders[0].socket.admit()
    says_nothing = await Raw.client(listener.port, request=b" ")
    waiting = [await Raw.client(listener.port)]
    waiting.append(await Raw.client(listener.port))
    await says_nothing.gone()
    waiting.append(await Raw.client(listener.port))
    assert (await recorders[1].end())[0] == 1006
    for raw, recorder in [(admitted, recorders[0]), *zip(waiting[1:], recorders[2:], strict=True)]:
        raw.send(TEXT, b"still here")
        assert await recorder.message() == b"still here"
        raw.reset()
        await recorder.end()
    waiting[0].writer.close()
    listener.close()


async def test_many_connections_at_once_leave_the_loop_to_others() -> None:
    async with listening(None) as listener:
        listening_socket, most = listener._listening_socket, 0
        address = ("127.0.0.1", listener.port)
        peers = [sockets.create_connection(address, timeout=5) for _ in range(100)]
        while len(listening_socket.waiting) < 100:
            before = len(listening_socket.waiting)
            await asyncio.sleep(0)
            most = max(most, len(listening_socket.waiting) - before)
        assert most <= 16
        for peer in peers:
            peer.close()
        await until(lambda: not listening_socket.waiting)


@pytest.mark.parametrize("end", ["close", "reset", "refused", "too much"])
async def test_an_ended_connection_leaves_nothing_in_memory(end: str) -> None:
    """No garbage collection is needed, which takes longer than a frame of audio."""
    servers: list[Recorder] = []

    def accept(path: str, headers: Mapping[str, str]) -> Handler | None:
        servers.append(Recorder())
        return None if end == "refused" else servers[-1]

    async def connect_and_end() -> None:
        raw = await Raw.client(listener.port, request=upgrade_request())
        await raw.head()
        if end == "close":
            raw.send(CLOSE, close_payload(1000))
        elif end == "too much":
            raw.send(TEXT, b"x" * 101)
        if end == "reset":
            raw.reset()
        else:
            await raw.gone()
        server = servers.pop()
        if end != "refused":
            await server.end()
        await until(lambda: not listener.waiting)

    listener = await listen("127.0.0.1", 0, accept, limits=UNIDENTIFIED)
    await connect_and_end()
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        await connect_and_end()
        gc.collect()
        ours = ("picows", websocket.__name__, "telephony.voice.listening_socket")
        assert [one for one in gc.garbage if type(one).__module__.startswith(ours)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        listener.close()


# Handlers that fail


class Failing(Recorder):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def fail(self, where: str) -> None:
        if where == self.where:
            raise ValueError(f"{CANARY} was said")

    def on_open(self, socket: Socket) -> None:
        super().on_open(socket)
        self.fail("on_open")

    def on_message(self, text: bytes) -> None:
        super().on_message(text)
        self.fail("on_message")

    def on_close(self, code: int, reason: str) -> None:
        super().on_close(code, reason)
        self.fail("on_close")

    def on_blocked(self) -> None:
        super().on_blocked()
        self.fail("on_blocked")


@pytest.mark.parametrize("where", ["on_open", "on_message"])
async def test_a_handler_fails(where: str, caplog: pytest.LogCaptureFixture) -> None:
    server, client = Failing(where), Recorder()
    async with listening(server) as listener:
        await connected(listener.port, client)
        client.socket.send(b"first")
        client.socket.send(b"second")
        assert await client.end() == await server.end() == (1011, "")
    assert server.messages.qsize() == (1 if where == "on_message" else 0)
    assert f"in {where}" in caplog.text
    assert "ValueError" in caplog.text
    assert CANARY not in caplog.text


async def test_a_handler_fails_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    server, client = Failing("on_close"), Recorder()
    async with listening(server) as listener:
        await connected(listener.port, client)
        client.socket.close()
        assert await client.end() == await server.end() == (1000, "")
        assert listener.open_sockets == 0
    assert "in on_close" in caplog.text
    assert CANARY not in caplog.text


async def test_a_handler_fails_when_blocked(caplog: pytest.LogCaptureFixture) -> None:
    server = Failing("on_blocked")
    async with listening(server, limits=Limits(close_answer=0.05)) as listener:
        raw = await Raw.client(listener.port)
        await soon(server.opened.wait())
        block(server)
        assert await server.end() == (1011, "")
        raw.writer.close()
    assert CANARY not in caplog.text


# Refusals by the listener


async def test_an_unknown_path() -> None:
    async with listening(None) as listener:
        with pytest.raises(ConnectFailed) as failed:
            await connected(listener.port, Recorder())
        assert failed.value.status == 404
        assert listener.open_sockets == 0


async def test_accept_fails(caplog: pytest.LogCaptureFixture) -> None:
    def accept(path: str, headers: Mapping[str, str]) -> Handler:
        raise ValueError(CANARY)

    listener = await listen("127.0.0.1", 0, accept)
    raw = await Raw.client(listener.port, request=upgrade_request())
    answer = await soon(raw.reader.read())
    raw.writer.close()
    listener.close()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert CANARY.encode() not in answer
    assert "in accept" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    "request_",
    [
        upgrade_request("POST /media HTTP/1.1"),
        upgrade_request("GET /media HTTP/1.0"),
        upgrade_request("nonsense"),
        upgrade_request(without="Upgrade"),
        upgrade_request(without="Connection"),
        upgrade_request(without="Sec-WebSocket-Key"),
        upgrade_request(Sec_WebSocket_Key="c2hvcnQ="),
        upgrade_request(Sec_WebSocket_Version="12"),
        upgrade_request(Connection="keep-alive"),
        upgrade_request(Content_Length="5"),
    ],
)
async def test_bad_requests(request_: bytes) -> None:
    server = Recorder()
    async with listening(server) as listener:
        raw = await Raw.client(listener.port, request=request_)
        assert (await soon(raw.reader.read())).startswith(b"HTTP/1.1 400 ")
        raw.writer.close()
        assert not server.opened.is_set()
        assert not server.closes

        await connected(listener.port, client := Recorder())
        client.socket.close()
        await server.end()


async def test_a_request_without_end() -> None:
    async with listening(Recorder()) as listener:
        raw = await Raw.client(listener.port, request=b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
        with pytest.raises(asyncio.IncompleteReadError):
            await raw.head()
        raw.writer.close()


async def test_an_upgrade_in_a_list() -> None:
    server = Recorder()
    async with listening(server) as listener:
        request = upgrade_request(Connection="keep-alive, Upgrade")
        raw = await Raw.client(listener.port, request=request)
        assert b" 101 " in await raw.head()
        raw.reset()
        await server.end()


async def test_a_closed_listener_leaves_open_sockets_alone() -> None:
    server, client = Recorder(), Recorder()
    async with listening(server) as listener:
        port = listener.port
        await connected(port, client)
        await soon(server.opened.wait())
    with pytest.raises(ConnectFailed) as failed:
        await connected(port, Recorder())
    assert failed.value.status is None
    client.socket.send(b"still here")
    assert await server.message() == b"still here"
    assert listener.open_sockets == 1
    client.socket.close()
    await server.end()
    assert listener.open_sockets == 0


async def test_a_port_can_be_shared_but_not_taken() -> None:
    async with listening(Recorder()) as listener:
        other = await listen("127.0.0.1", listener.port, lambda path, headers: None)
        assert other.port == listener.port
        other.close()
    with (
        sockets.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
    ):
        await listen("127.0.0.1", taken.getsockname()[1], lambda path, headers: None)


# Connections that fail


@pytest.mark.parametrize("status", [b"401 No", b"429 No", b"500 No", b"520 Not in a list"])
async def test_refused_upgrades(status: bytes) -> None:
    async def talk(raw: Raw) -> None:
        await raw.head()
        raw.writer.write(b"HTTP/1.1 " + status + b"\r\nSet-Cookie: sk-canary\r\n\r\n{}")

    async with answering(talk) as port:
        client = Recorder()
        with pytest.raises(ConnectFailed) as failed:
            await connected(port, client)
    assert failed.value.status == int(status[:3])
    assert CANARY not in failed.value.reason
    assert not client.opened.is_set()
    assert not client.closes


async def test_redirects_are_not_followed() -> None:
    requests = 0

    async def talk(raw: Raw) -> None:
        nonlocal requests
        requests += 1
        await raw.head()
        raw.writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")

    async with answering(talk) as port:
        with pytest.raises(ConnectFailed) as failed:
            await connected(port, Recorder())
    assert failed.value.status == 302
    assert requests == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: made up\r\n\r\n",
    ],
)
async def test_no_upgrade(answer: bytes) -> None:
    async def talk(raw: Raw) -> None:
        await raw.head()
        raw.writer.write(answer)

    async with answering(talk) as port:
        with pytest.raises(ConnectFailed) as failed:
            await connected(port, Recorder())
    assert failed.value.status is None
    assert failed.value.reason


@pytest.mark.parametrize(
    "url", ["ws://no-such-host.invalid/", "http://127.0.0.1/", "ws://", "ws://\udcff/"]
)
async def test_nowhere(url: str) -> None:
    with pytest.raises(ConnectFailed) as failed:
        await connect(url, headers={}, handler=Recorder(), timeout=5)
    assert failed.value.status is None
    assert failed.value.reason


async def test_a_header_with_a_line_break() -> None:
    with pytest.raises(ValueError, match="line break"):
        await connect(
            "ws://127.0.0.1:1/", headers={"A": "b\r\nC: d"}, handler=Recorder(), timeout=5
        )


async def test_a_server_that_does_not_answer() -> None:
    async def talk(raw: Raw) -> None:
        await raw.head()
        await raw.gone()

    async with answering(talk) as port:
        client = Recorder()
        with pytest.raises(ConnectFailed) as failed:
            await connect(f"ws://127.0.0.1:{port}/", headers={}, handler=client, timeout=0.05)
    assert failed.value.status is None
    assert "0.05 seconds" in failed.value.reason
    assert not client.opened.is_set()


async def test_an_upgrade_after_the_cancellation() -> None:
    async def talk(raw: Raw) -> None:
        request = await raw.head()
        asked.set()
        await soon(late.wait())
        raw.writer.write(upgrade_answer(request))
        await raw.gone()

    asked, late = asyncio.Event(), asyncio.Event()
    async with answering(talk) as port:
        client = Recorder()
        connecting = asyncio.create_task(connected(port, client))
        await soon(asked.wait())
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        late.set()
    assert not client.opened.is_set()
    assert not client.closes


async def test_a_cancellation_at_any_moment_leaves_no_socket_open() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port, tasks = server.sockets[0].getsockname()[1], len(asyncio.all_tasks())
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ResourceWarning)
            for turns in range(12):
                connecting = asyncio.create_task(connected(port, Recorder()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                connecting.cancel()
                await asyncio.wait([connecting])
            del connecting
            await until(lambda: len(asyncio.all_tasks()) == tasks)
            gc.collect()
    assert [str(each.message) for each in warned] == []


async def test_credentials_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    server, client = Recorder(), Recorder()
    async with listening(server) as listener:
        await connect(
            f"ws://127.0.0.1:{listener.port}/",
            headers={"Authorization": f"Bearer {CANARY}"},
            handler=client,
            timeout=5,
        )
        client.socket.close()
        await server.end()
    assert CANARY not in caplog.text


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 by nobody in particular, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def _trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    websocket._client_tls.cache_clear()
    yield
    websocket._client_tls.cache_clear()


@pytest.mark.usefixtures("_trusted")
async def test_tls(certificate: Path) -> None:
    async def talk(raw: Raw) -> None:
        raw.writer.write(upgrade_answer(await raw.head()))
        assert await raw.receive() == (TEXT, b"hello")
        raw.send(TEXT, b"good day")
        await soon(client.blocked.wait())
        for index in range(sent):
            assert (await raw.receive())[1][:8] == f"{index:08}".encode()
        assert await raw.close_code() == 1000
        raw.send(CLOSE, close_payload(1000))

    client, sent = Recorder(), 0
    async with answering(talk, tls=server_tls(certificate)) as port:
        await connect(f"wss://127.0.0.1:{port}/", headers={}, handler=client, timeout=5)
        transport = client.socket._transport.underlying_transport
        assert transport.get_extra_info("sslcontext") is websocket._client_tls()
        client.socket.send(b"hello")
        assert await client.message() == b"good day"
        sent = block(client)
        await soon(client.unblocked.wait())
        client.socket.close()
        assert await client.end() == (1000, "")


async def test_an_untrusted_certificate(certificate: Path) -> None:
    async def talk(raw: Raw) -> None:
        raise AssertionError("the client should not get here")

    async with answering(talk, tls=server_tls(certificate)) as port:
        with pytest.raises(ConnectFailed) as failed:
            await connect(f"wss://127.0.0.1:{port}/", headers={}, handler=Recorder(), timeout=5)
    assert failed.value.status is None
    assert "self-signed certificate" in failed.value.reason


# The engine's event loop is uvloop


@pytest.mark.parametrize(
    "scenario",
    [
        test_it_works,
        test_close_by_the_server,
        test_a_broken_connection_while_sending,
        test_a_close_of_a_peer_that_does_not_read,
        test_many_end_while_sending,
        test_a_silent_peer_is_lost,
        test_our_own_pause_is_not_the_peers_silence,
        test_backpressure,
        test_a_closed_listener_leaves_open_sockets_alone,
        test_a_server_that_does_not_answer,
        test_an_upgrade_after_the_cancellation,
    ],
)
def test_on_uvloop(scenario: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
