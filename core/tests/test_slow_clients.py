"""Slow clients, and clients that send too much, against real gunicorns: web and engine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path

import psutil
import pytest

from core import request_limits
from core.serving.web_worker import HeadTooLarge, Incoming
from core.tests.waiting import until
from core.tests.web import web_process

ROOT = Path(__file__).resolve().parents[2]
MANY = 30

# Responds with the number of bytes received, with 3 or 20 MB, or with the number of connections in
# memory, without garbage collection. For "/endless", it does not return after the response. For
# "/blocking", it first reads a pipe of that name.
APPLICATION = """
import asyncio
import gc
import pathlib

from core.serving import engine_http
from core import request_limits

gc.disable()

request_limits.REQUEST_WITHIN_S = float({within!r})
request_limits.ANSWER_WITHIN_S = float({within!r})
request_limits.WAITING = {waiting!r}

LARGE = {{"/large": 3_000_000, "/huge": 20_000_000}}

def answer(path, size):
    if path == "/blocking":
        open(pathlib.Path(__file__).with_name("blocking")).read()
    if path == "/held":
        held = [each for each in gc.get_objects() if isinstance(each, engine_http.BoundedProtocol)]
        return str(len(held)).encode()
    return b"x" * LARGE[path] if path in LARGE else str(size).encode()

def web(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)  # like Django, reads no more
    body = answer(environ["PATH_INFO"], len(environ["wsgi.input"].read(length)))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def engine(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = answer(scope["path"], size)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
    if scope["path"] == "/endless":
        await asyncio.Event().wait()
"""
WORKERS = {
    "web": "core.serving.web_worker.WebWorker",
    "engine": "core.serving.engine_worker.EngineWorker",
}

Connect = Callable[..., "Client"]


class Client:
    """One connection, with a timeout of 20 seconds, far longer than any deadline."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._answer = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def status(self) -> int:
        """Read a response; return its status, or 0 if the connection was closed without one."""
        status, _ = self.answer()
        return status

    def answer(self) -> tuple[int, bytes]:
        try:
            line = self._answer.readline()
            if not line:
                return 0, b""
            length = 0
            while (header := self._answer.readline()) not in (b"\r\n", b""):
                name, _, value = header.lower().partition(b":")
                length = int(value) if name == b"content-length" else length
            return int(line.split()[1]), self._answer.read(length)
        except ConnectionResetError:
            return 0, b""

    def is_closed(self) -> bool:
        """Discard input until the server closes the connection; return True."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self._answer.close()
        self.socket.close()


@pytest.fixture(scope="module")
def port_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., int]]:
    """A function that returns the port of a server with the given limits, and starts it once."""
    with ExitStack() as ends:

        @cache
        def port_of(kind: str, *, within: int = 60, waiting: int = 256) -> int:
            folder = tmp_path_factory.mktemp(kind)
            code = APPLICATION.format(within=within, waiting=waiting)
            (folder / "counting.py").write_text(code)
            listening = ends.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
            process = start_gunicorn(kind, folder, listening)
            ends.callback(process.wait, 20)
            ends.callback(process.send_signal, signal.SIGQUIT)
            return int(listening.getsockname()[1])

        yield port_of


def start_gunicorn(kind: str, folder: Path, listening: socket.socket) -> subprocess.Popen[bytes]:
    """Start one worker; a web worker has eight threads."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", f"counting:{kind}", "--threads=8"),
            *(f"--worker-class={WORKERS[kind]}", f"--pythonpath={folder}", "--keep-alive=30"),
            *("--no-control-socket", f"--bind=fd://{listening.fileno()}"),
        ],
        cwd=ROOT,
        pass_fds=[listening.fileno()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def connect(port_of: Callable[..., int]) -> Iterator[Connect]:
    with ExitStack() as ends:

        def connect(kind: str, **limits: int) -> Client:
            client = Client(port_of(kind, **limits))
            ends.callback(client.close)
            return client

        yield connect


@pytest.fixture(params=["web", "engine"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def post(body: bytes, *headers: str, path: str = "/") -> bytes:
    head = "".join(f"{header}\r\n" for header in headers or [f"Content-Length: {len(body)}"])
    return f"POST {path} HTTP/1.1\r\nHost: it\r\n{head}\r\n".encode() + body


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return post(body + b"0\r\n\r\n", "Transfer-Encoding: chunked")


GET = b"GET / HTTP/1.1\r\nHost: it\r\n\r\n"
GET_HUGE = b"GET /huge HTTP/1.1\r\nHost: it\r\n\r\n"
GET_ENDLESS = b"GET /endless HTTP/1.1\r\nHost: it\r\n\r\n"
# Incomplete requests of slow clients.
NOTHING = b""
HALF_A_LINE = b"GET / HT"
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: it\r\nX-Slow: "
HALF_A_BODY = post(b"half", "Content-Length: 8")


def test_ordinary_requests_get_a_response(kind: str, connect: Connect) -> None:
    client = connect(kind)
    for _ in range(2):  # on the same connection
        client.send(GET)
        assert client.answer() == (200, b"0")
    client.send(post(b"one") + post(b"three") + GET)  # pipelined
    assert [client.answer()[1] for _ in range(3)] == [b"3", b"5", b"0"]
    for byte in post(b"byte by byte"):
        client.send(bytes([byte]))
    assert client.answer() == (200, b"12")
    client.send(post(b"", "Content-Length: 5", "Expect: 100-continue"))
    assert client.status() == 100
    client.send(b"large")
    assert client.answer() == (200, b"5")
    client.send(post(b"x", "Content-Length: 1", "Connection: close"))
    assert client.status() == 200
    assert client.is_closed()


def test_the_largest_body_is_accepted(kind: str, connect: Connect) -> None:
    body = b"x" * request_limits.BODY
    client = connect(kind)
    client.send(post(body))
    assert client.answer() == (200, str(len(body)).encode())


def test_a_large_response_arrives_whole(kind: str, connect: Connect) -> None:
    client = connect(kind)
    client.send(GET_HUGE)
    assert len(client.answer()[1]) == 20_000_000


@pytest.mark.parametrize("sent", [NOTHING, HALF_A_LINE, HALF_A_HEAD, HALF_A_BODY])
def test_slow_senders_do_not_block_others(kind: str, sent: bytes, connect: Connect) -> None:
    for _ in range(MANY):
        connect(kind).send(sent)
    ordinary = connect(kind)
    ordinary.send(GET)
    assert ordinary.status() == 200


def test_clients_that_do_not_read_do_not_block_others(kind: str, connect: Connect) -> None:
    for _ in range(MANY):
        connect(kind).send(GET.replace(b"/", b"/large", 1))
    ordinary = connect(kind)
    ordinary.send(GET)
    assert ordinary.status() == 200


def test_clients_that_do_not_close_do_not_block_others(kind: str, connect: Connect) -> None:
    clients = [connect(kind) for _ in range(MANY)]
    for client in clients:
        client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert clients[-1].status() == 200


def test_a_client_that_does_not_read_is_disconnected(kind: str, connect: Connect) -> None:
    client = connect(kind, within=1)
    client.send(GET_HUGE)
    assert client.socket.recv(1, socket.MSG_PEEK)  # the response has started
    wait_until_gone(client)
    assert len(client.answer()[1]) < 20_000_000


def wait_until_gone(client: Client) -> None:
    """Wait until no process has the other end; the client itself notices only when it reads."""
    ends = client.socket.getpeername(), client.socket.getsockname()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(
            (connection.laddr, connection.raddr) == ends and connection.pid
            for connection in psutil.net_connections("tcp4")
        ):
            return
        time.sleep(0.05)
    raise AssertionError("The connection is still open.")


@pytest.mark.parametrize(
    ("sent", "status"),
    [(NOTHING, 0), (HALF_A_LINE, 408), (HALF_A_HEAD, 408), (HALF_A_BODY, 408)],
)
def test_a_client_that_sends_too_slowly_is_disconnected(
    kind: str, sent: bytes, status: int, connect: Connect
) -> None:
    client = connect(kind, within=1)
    client.send(sent)
    assert client.status() == status
    assert client.is_closed()


def test_sending_byte_by_byte_does_not_extend_the_deadline(kind: str, connect: Connect) -> None:
    client = connect(kind, within=1)
    client.send(post(b"", "Content-Length: 200000"))
    client.socket.settimeout(0.05)
    for _ in range(400):  # 20 seconds
        client.send(b"x")
        try:
            line = client.socket.recv(100)
        except TimeoutError:
            continue
        break
    assert line.startswith(b"HTTP/1.1 408 ")


def test_a_new_connection_replaces_the_oldest_waiting_one(kind: str, connect: Connect) -> None:
    slow = [connect(kind, waiting=20) for _ in range(MANY)]
    for client in slow:
        client.send(HALF_A_HEAD)
    ordinary = connect(kind, waiting=20)
    ordinary.send(GET)
    assert ordinary.status() == 200
    assert slow[0].is_closed()
    slow[-1].send(b"no more\r\n\r\n")
    assert slow[-1].status() == 200


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: it\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def test_the_http_port_does_not_upgrade_to_websocket(connect: Connect) -> None:
    client = connect("engine")
    client.send(UPGRADE)
    assert client.answer() == (200, b"0")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (NOTHING, None),
        (HALF_A_HEAD, None),
        (HALF_A_BODY, None),
        (GET, 200),
        (UPGRADE, 200),
        (GET_HUGE, None),
        (GET_ENDLESS, 200),
        (b"\xff" * 100_000, 414),
    ],
    ids=["nothing", "half a head", "half a body", "GET", "upgrade", "unread", "endless", "garbage"],
)
async def test_an_ended_connection_leaves_no_garbage(
    sent: bytes, status: int | None, connect: Connect
) -> None:
    """Reference cycles need a full garbage collection, during which all calls are silent."""
    watching = connect("engine")
    for _ in range(5):
        client = connect("engine")
        client.send(sent)
        if status is not None:
            assert client.status() == status
        client.close()
    await until(lambda: held(watching) == 1)


def held(client: Client) -> int:
    client.send(GET.replace(b"/", b"/held", 1))
    return int(client.answer()[1])


class TestTooMuch:
    """A request that is too large is refused and not read."""

    def test_head(self, kind: str, connect: Connect) -> None:
        client = connect(kind)
        client.send(b"GET / HTTP/1.1\r\nHost: it\r\nX-Long: " + b"x" * 100_000)
        assert client.status() == 431
        assert client.is_closed()

    @pytest.mark.parametrize("length", [request_limits.BODY + 1, 10**15])
    def test_body(self, kind: str, length: int, connect: Connect) -> None:
        """The application responds, because it knows the client; it receives none of the body."""
        client = connect(kind)
        client.send(post(b"x" * 200_000, f"Content-Length: {length}"))
        assert client.answer() == (200, b"0")
        assert client.is_closed()

    def test_chunks(self, connect: Connect) -> None:
        client = connect("engine")
        client.send(chunked(*[b"x" * 10_000] * 100))
        assert client.status() == 413

    def test_voice_webhook(self, connect: Connect) -> None:
        for body, answer in (
            (b"x" * request_limits.VOICE_BODY, b"65536"),
            (b"x" * 65_537, b"0"),
        ):
            client = connect("engine")
            client.send(post(body, path="/voice/after/x"))
            assert client.answer() == (200, answer)


class TestChunks:
    def test_chunks_are_joined(self, connect: Connect) -> None:
        client = connect("engine")
        client.send(chunked(b"one", b"and", b"two"))
        assert client.answer() == (200, b"9")

    def test_too_many_chunks_are_refused(self, connect: Connect) -> None:
        client = connect("engine")
        client.send(chunked(*[b"x"] * 10_000))
        status, why = client.answer()
        assert (status, b"too many pieces" in why) == (400, True)

    def test_web_reads_no_chunks(self, connect: Connect) -> None:
        client = connect("web")
        client.send(chunked(*[b"x"] * 10_000))
        assert client.answer() == (200, b"0")
        assert client.is_closed()


class TestIncoming:
    """The point at which a request is complete."""

    @pytest.mark.parametrize(
        "request_",
        [
            GET,
            post(b""),
            post(b"body"),
            post(b"body", "content-LENGTH:4"),
            b"\r\n" + GET,
            b"GET / HTTP/1.0\r\n\r\n",
        ],
    )
    def test_a_request_is_complete_at_its_last_byte(self, request_: bytes) -> None:
        incoming = Incoming()
        for index in range(len(request_)):
            assert not incoming.is_whole, request_[:index]
            incoming.take(request_[index : index + 1])
        assert incoming.is_whole
        assert not incoming.is_last

    @pytest.mark.parametrize(
        "header",
        [
            f"Content-Length: {request_limits.BODY + 1}",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
        ],
    )
    def test_a_body_that_is_too_large_or_chunked_is_not_waited_for(self, header: str) -> None:
        incoming = Incoming()
        incoming.take(post(b"", header))
        assert incoming.is_whole
        assert incoming.is_last

    @pytest.mark.parametrize("value", ["-1", "+4", "4,4", "0x4", "four", "4" * 19, ""])
    def test_an_invalid_length_is_left_to_gunicorn(self, value: str) -> None:
        incoming = Incoming()
        incoming.take(post(b"", f"Content-Length: {value}"))
        assert incoming.is_whole

    def test_an_endless_head_is_refused(self) -> None:
        incoming = Incoming()
        with pytest.raises(HeadTooLarge):
            incoming.take(b"GET /" + b"x" * request_limits.HEAD)

    def test_expect_100_continue(self) -> None:
        incoming = Incoming()
        incoming.take(post(b"", "Expect: 100-Continue", "Content-Length: 4"))
        assert incoming.expects_continue
        incoming.take(b"body")
        assert incoming.is_whole
        assert b"Expect" not in incoming.received


def test_an_invalid_length_is_refused(kind: str, connect: Connect) -> None:
    digits = "Content-Length: " + "9" * 5000
    for header in (digits, "Content-Length: -1", "Content-Length: 1, 1", "Transfer-Encoding: gzip"):
        client = connect(kind)
        client.send(post(b"", header))
        assert client.status() == 400, header


@pytest.mark.django_db(transaction=True)
def test_slow_clients_do_not_block_the_production_server() -> None:
    with web_process(workers=1) as web, ExitStack() as ends:
        port = int(web.url.rpartition(":")[2])
        for _ in range(MANY):
            slow = Client(port)
            ends.callback(slow.close)
            slow.send(HALF_A_BODY)
        ordinary = Client(port)
        ends.callback(ordinary.close)
        ordinary.send(GET.replace(b"/", b"/livez", 1))
        assert ordinary.status() == 200


class TestStopping:
    @pytest.fixture
    def port(self, tmp_path: Path) -> Iterator[int]:
        (tmp_path / "counting.py").write_text(APPLICATION.format(within=60, waiting=256))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.process = start_gunicorn("web", tmp_path, listening)
            yield int(listening.getsockname()[1])
            self.process.kill()
            self.process.wait(10)

    @pytest.fixture
    def client(self, port: int) -> Iterator[Callable[[], Client]]:
        with ExitStack() as ends:

            def client() -> Client:
                return ends.enter_context(closing(Client(port)))

            yield client

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def assert_ends(self) -> None:
        assert self.process.wait(20) == 0  # less than the 30 seconds that requests may take

    def test_slow_and_idle_clients_are_not_waited_for(self, client: Callable[[], Client]) -> None:
        idle, slow = client(), client()
        idle.send(GET)
        assert idle.status() == 200
        slow.send(HALF_A_BODY)
        self.stop()
        self.assert_ends()

    def test_nor_are_clients_that_become_idle_later(
        self, client: Callable[[], Client], tmp_path: Path
    ) -> None:
        idle, busy = client(), client()
        idle.send(GET)
        assert idle.status() == 200
        os.mkfifo(tmp_path / "blocking")
        busy.send(GET.replace(b"/", b"/blocking", 1))
        with (tmp_path / "blocking").open("w"):  # as soon as the application has opened it
            self.stop()
            assert idle.is_closed()
        assert busy.status() == 200
        self.assert_ends()

    def test_a_response_arrives_whole(self, client: Callable[[], Client]) -> None:
        idle, busy = client(), client()
        idle.send(GET)
        assert idle.status() == 200
        busy.send(GET_HUGE)
        assert busy.socket.recv(1, socket.MSG_PEEK)  # the response has started
        self.stop()
        assert idle.is_closed()
        assert len(busy.answer()[1]) == 20_000_000
        busy.close()
        self.assert_ends()
