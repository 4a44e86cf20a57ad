"""The guarded client, against backends that behave and backends that do not."""

from __future__ import annotations

import asyncio
import gzip
import math
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from pytest_socket import SocketConnectBlockedError

from core.version import VERSION
from telephony.callbacks import client, sliced_parsing
from telephony.callbacks.client import Answer, CallbackFailed, retry_after_seconds
from telephony.tests.callbacks.conftest import Backend, Certificate, Names, RawHandler, serve

StartRaw = Callable[[RawHandler], Awaitable[str]]


async def post(url: str, *, seconds: float = 15) -> Answer:
    return await client.post(url, b'{"a":1}', {"webhook-id": "msg_1"}, timeout=seconds)


async def failure(url: str, *, seconds: float = 15) -> CallbackFailed:
    with pytest.raises(CallbackFailed) as raised:
        await post(url, seconds=seconds)
    return raised.value


async def test_post_sends_and_returns_json(backend: Backend) -> None:
    backend.answers(200, {"ok": True})
    assert await post(f"{backend.url}/calls/start?tenant=7") == Answer(200, b'{"ok": true}', None)
    (received,) = backend.received
    assert received.path == "/calls/start"
    assert received.body == b'{"a":1}'
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["User-Agent"] == f"Switchhook/{VERSION}"
    assert received.headers["webhook-id"] == "msg_1"


@pytest.mark.parametrize("status", [204, 400, 410, 503])
async def test_any_status_is_a_response(backend: Backend, status: int) -> None:
    backend.answers(status)
    assert (await post(backend.url)).status == status


async def test_a_response_may_have_no_body(backend: Backend) -> None:
    backend.answers(204)
    for _ in range(3):
        assert (await post(backend.url)).body == b""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(backend: Backend, status: int) -> None:
    backend.answers(status, Location=f"{backend.url}/elsewhere")
    assert (await post(f"{backend.url}/here")).status == status
    assert [received.path for received in backend.received] == ["/here"]


async def test_cookies_are_not_stored(backend: Backend) -> None:
    backend.answers(200, **{"Set-Cookie": "session=1; Path=/"})
    await post(backend.url)
    await post(backend.url)
    assert "Cookie" not in backend.received[1].headers


async def test_proxy_settings_in_the_environment_are_ignored(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    assert (await post(backend.url)).status == 200


async def test_connections_are_reused(backend: Backend) -> None:
    for _ in range(3):
        await post(backend.url)
    assert len(backend.connections) == 1


async def test_a_connection_that_the_server_has_closed_is_not_reused() -> None:
    """Even if the event loop was too busy to notice."""
    may_close, has_closed = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as received:
                while received.read(1) != b"}":  # the request's last byte
                    pass
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                may_close.wait(10)
            has_closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        listener.settimeout(10)
        serving = threads.submit(serve, listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await post(url)
        may_close.set()
        assert has_closed.wait(10)  # in the event loop's thread
        assert (await post(url)).body == b"{}"
        serving.result(10)


async def test_each_event_loop_has_its_own_connections(backend: Backend) -> None:
    """It closes them when it ends: an unclosed one causes a warning, which is an error here."""
    await post(backend.url)
    for _ in range(2):
        answer = await asyncio.to_thread(lambda: asyncio.run(post(backend.url)))
        assert answer.status == 200
    assert (await post(backend.url)).status == 200


async def test_close_closes_idle_connections(backend: Backend) -> None:
    await post(backend.url)
    await client.close()
    await client.close()
    await post(backend.url)
    assert len(backend.connections) == 2


# Deadlines


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _drip_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: 1\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _drip_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("behaviour", [_silence, _drip_the_head, _drip_the_body])
async def test_the_timeout_covers_the_whole_request(
    raw_backend: StartRaw, behaviour: RawHandler
) -> None:
    url = await raw_backend(behaviour)
    failed = await failure(url, seconds=0.3)
    assert failed.code == "timeout"
    assert failed.reason == "no response within 0.3 seconds"


async def test_a_slow_look_up_times_out_and_delays_no_other_host(
    backend: Backend, names: Names
) -> None:
    release = threading.Event()
    names.delays["slow.test"] = lambda: release.wait(5)
    try:
        many = [failure("http://slow.test/", seconds=0.2) for _ in range(200)]
        failures, answer = await asyncio.gather(asyncio.gather(*many), post(backend.url))
        assert {failed.code for failed in failures} == {"timeout"}
        assert answer.status == 200
        assert names.asked == ["slow.test"], "one look-up at a time for each name"
    finally:
        release.set()


async def test_a_slow_host_delays_no_other_host(raw_backend: StartRaw, backend: Backend) -> None:
    slow = await raw_backend(_silence)
    waiting = [asyncio.ensure_future(post(slow, seconds=30)) for _ in range(150)]
    try:
        await asyncio.sleep(0)
        assert (await post(backend.url)).status == 200
        assert not any(task.done() for task in waiting)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


# Responses that are too large


async def test_a_response_may_have_one_mebibyte(backend: Backend) -> None:
    backend.answers_bytes(b"x" * 2**20)
    assert len((await post(backend.url)).body) == 2**20


async def test_a_response_of_one_byte_more_is_too_large(backend: Backend) -> None:
    backend.answers_bytes(b"x" * (2**20 + 1))
    assert (await failure(backend.url)).code == "too_large"


async def test_an_endless_response_is_too_large(raw_backend: StartRaw) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await writer.drain()

    assert (await failure(await raw_backend(answer))).code == "too_large"


@pytest.mark.parametrize("packing", ["once", "twice"])
async def test_a_decompression_bomb_is_too_large(backend: Backend, packing: str) -> None:
    bomb = gzip.compress(bytes(64 * 2**20), compresslevel=6)
    encoding = "gzip"
    if packing == "twice":
        bomb, encoding = gzip.compress(bomb), "gzip, gzip"

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=bomb, headers={"Content-Encoding": encoding})

    backend.answer = answer
    if packing == "once":
        assert (await failure(backend.url)).code == "too_large"
    else:
        assert len((await post(backend.url)).body) <= 2**20


async def test_a_compressed_response_is_decompressed(backend: Backend) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = gzip.compress(b'{"result":1}')
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    backend.answer = answer
    assert (await post(backend.url)).body == b'{"result":1}'


async def test_the_largest_response_can_be_set(backend: Backend) -> None:
    backend.answers_bytes(b"x" * 1025)
    with pytest.raises(client.TooLarge) as raised:
        await client.post(backend.url, b"{}", {}, timeout=15, at_most=1024)
    assert raised.value.reason == "the response has more than 1 KB"


# Responses that keep the event loop busy


def _padded(answer: bytes, times: int = 1) -> RawHandler:
    """Send bytes repeatedly, until the client closes the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for _ in range(times):
                writer.write(answer)
                await writer.drain()

    return handle


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_response_in_one_byte_chunks_is_too_large(raw_backend: StartRaw) -> None:
    url = await raw_backend(_padded(_CHUNKED + b"1\r\nx\r\n" * 2**20 + b"0\r\n\r\n"))
    failed = await failure(url)
    assert (failed.code, failed.reason) == (
        "too_large",
        "the response comes in more than 4,096 pieces",
    )


async def test_a_response_may_have_the_most_pieces(raw_backend: StartRaw) -> None:
    url = await raw_backend(_padded(_CHUNKED + b"1\r\nx\r\n" * 4096 + b"0\r\n\r\n"))
    assert (await post(url)).body == b"x" * 4096


@pytest.mark.parametrize(
    "padding",
    [
        b"HTTP/1.1 100 \r\n\r\n" * 50_000,
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 50_000,
        # Chunks that decompress to nothing: an empty "deflate" block, repeated.
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"a\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff\r\n"
        + b"5\r\n\0\0\0\xff\xff\r\n" * 300_000,
    ],
    ids=["continue", "early hints", "nothing"],
)
async def test_a_padded_response_is_aborted(raw_backend: StartRaw, padding: bytes) -> None:
    failed = await failure(await raw_backend(_padded(padding, times=100)), seconds=20)
    assert (failed.code, failed.reason) == (
        "too_large",
        "the response has too much data around its body",
    )


async def test_an_early_hint_may_precede_the_response(raw_backend: StartRaw) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    assert (await post(await raw_backend(_padded(hint * 3 + answer)))).body == b"{}"


async def test_a_response_is_parsed_in_slices(
    raw_backend: StartRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    parse = ResponseHandler.data_received

    def noting(self: ResponseHandler, data: bytes) -> None:
        sizes.append(len(data))
        parse(self, data)

    monkeypatch.setattr(ResponseHandler, "data_received", noting)
    body = b"x" * 2**20
    url = await raw_backend(
        _padded(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    )
    assert (await post(url)).body == body
    assert max(sizes) == sliced_parsing.SLICE
    assert sum(sizes) > len(body)


async def test_a_response_may_end_with_the_connection(raw_backend: StartRaw) -> None:
    url = await raw_backend(_padded(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000))
    assert (await post(url)).body == b"x" * 300_000


# Connections that break


def _answer(data: bytes) -> RawHandler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answer


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize(
    "behaviour",
    [
        _reset,
        _answer(b""),
        _answer(b"SSH-2.0-OpenSSH_9.6\r\n"),
        _answer(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n"),
        _answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"),
        _answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        _answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"),
    ],
    ids=["reset", "closed", "not HTTP", "long header", "cut off", "bad chunk", "bad gzip"],
)
async def test_an_invalid_response_is_a_failure(
    raw_backend: StartRaw, behaviour: RawHandler
) -> None:
    assert (await failure(await raw_backend(behaviour))).code == "unreachable"


async def test_a_closed_port_is_unreachable() -> None:
    assert (await failure("http://127.0.0.1:1/")).code == "unreachable"


@pytest.mark.parametrize("host", ["nobody.test", "a..test", "a" * 64 + ".test"])
async def test_an_unknown_host_name_is_unreachable(names: Names, host: str) -> None:
    failed = await failure(f"http://{host}/path?query")
    assert failed.code == "unreachable"
    assert failed.reason == f"the host name {host} was not found"


async def test_the_next_address_is_tried(backend: Backend, names: Names) -> None:
    names.addresses["backend.test"] = ["::1", "127.0.0.1"]
    url = backend.url.replace("127.0.0.1", "backend.test")
    assert (await post(url)).status == 200


# TLS


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Certificate], None]]:
    """Add a certificate to those that the system trusts."""

    def trust(certificate: Certificate) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        client._tls.cache_clear()

    yield trust
    client._tls.cache_clear()


async def test_https_with_a_trusted_certificate(
    names: Names, certificate: Certificate, trusting: Callable[[Certificate], None]
) -> None:
    trusting(certificate)
    names.addresses["backend.test"] = ["127.0.0.1"]
    async with AsyncExitStack() as stack:
        port = await serve(Backend(), stack, certificate.server)
        assert (await post(f"https://backend.test:{port}/")).status == 200
        await client.close()


@pytest.mark.parametrize("trusted", [False, True], ids=["self-signed", "for another name"])
async def test_an_untrusted_certificate_is_refused(
    names: Names,
    certificate: Certificate,
    trusting: Callable[[Certificate], None],
    trusted: bool,
) -> None:
    if trusted:
        trusting(certificate)
    name = "other.test" if trusted else "backend.test"
    names.addresses[name] = ["127.0.0.1"]
    backend = Backend()
    async with AsyncExitStack() as stack:
        port = await serve(backend, stack, certificate.server)
        failed = await failure(f"https://{name}:{port}/")
        await client.close()
    assert failed.code == "tls"
    assert failed.reason.startswith("the certificate is not trusted: ")
    assert backend.received == []


async def test_https_to_an_http_port_fails(backend: Backend) -> None:
    url = backend.url.replace("http:", "https:")
    assert (await failure(url)).code == "tls"


# Addresses

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",  # noqa: S104 (nothing is bound)
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",
    "2001:db8::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "100::1",
]


@pytest.fixture
def guarded(settings: Any) -> None:
    """Allow only https and public addresses, as in production."""
    settings.CALLBACK_ALLOW_PRIVATE = False


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_with_a_private_address_is_blocked(names: Names, address: str) -> None:
    names.addresses["inside.test"] = [address]
    failed = await failure("https://inside.test/")
    assert failed.code == "blocked_address"
    assert failed.reason == "the host has no public address"


@pytest.mark.usefixtures("guarded")
async def test_a_name_with_several_private_addresses_is_blocked(names: Names) -> None:
    names.addresses["inside.test"] = ["::1", "10.0.0.1", "127.0.0.1", "169.254.169.254"]
    assert (await failure("https://inside.test/")).code == "blocked_address"


@dataclass
class Listener:
    """A listener on this machine that counts its connections."""

    port: int = 0
    connections: int = 0


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        listener.port = server.sockets[0].getsockname()[1]
        yield listener
        await client.close()


async def test_the_listener_can_be_reached(listener: Listener) -> None:
    await failure(f"http://127.0.0.1:{listener.port}/")
    assert listener.connections == 1


# Tests have no network: a connection to a public address fails.
tries_the_internet = pytest.mark.filterwarnings("ignore:A test tried to use socket")


@tries_the_internet
@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("addresses", [["127.0.0.1", "1.1.1.1"], ["1.1.1.1", "127.0.0.1"]])
async def test_a_private_address_among_public_ones_is_not_reached(
    names: Names, listener: Listener, addresses: list[str]
) -> None:
    names.addresses["mixed.test"] = addresses
    with pytest.raises((CallbackFailed, SocketConnectBlockedError)):
        await post(f"https://mixed.test:{listener.port}/")
    assert listener.connections == 0


@tries_the_internet
@pytest.mark.usefixtures("guarded")
async def test_a_name_that_becomes_private_is_not_reached(names: Names, listener: Listener) -> None:
    names.addresses["rebinding.test"] = ["1.1.1.1"]
    with pytest.raises(SocketConnectBlockedError):
        await post(f"https://rebinding.test:{listener.port}/")
    await client.close()  # forgets the look-ups
    names.addresses["rebinding.test"] = ["127.0.0.1"]
    failed = await failure(f"https://rebinding.test:{listener.port}/")
    assert failed.code == "blocked_address"
    assert listener.connections == 0


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "//example.com/",
        "example.com",
        "",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://:@example.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:port/",
        "https://example.com\\@127.0.0.1/",
        "https://exam ple.com/",
        "https://example.com/\r\nX-Injected: 1",
        "https://localhost/",
        "https://localhost.:8000/",
        "https://backend/",
        "https://backend.internal/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "https://example.com/" + "a" * 2000,
    ],
)
async def test_a_hostile_url_is_refused(url: str) -> None:
    assert (await failure(url)).code == "bad_url"


# Retry-After

NOW = datetime(2026, 4, 1, 9, 30, tzinfo=UTC)


async def test_a_response_includes_retry_after(backend: Backend) -> None:
    backend.answers(503, **{"Retry-After": "120"})
    assert (await post(backend.url)).retry_after == 120


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (format_datetime(NOW + timedelta(minutes=5), usegmt=True), 300),
        ("Wed, 01 Apr 2026 09:35:00 -0000", 300),
        ("Wed, 01 Apr 2026 11:35:00 +0200", 300),
        ("Wednesday, 01-Apr-26 09:35:00 GMT", 300),
        (format_datetime(NOW - timedelta(days=5), usegmt=True), 0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Wed, 99 Foo 2026 09:35:00 GMT", None),
        ("Wed, 01 Apr 2026 09:35:00 +9999", None),
        (f"Wed, 01 Apr 2026 09:35:00 +{'9' * 30}", None),
        ("9" * 400, math.inf),
    ],
)
def test_retry_after_is_read_as_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds
