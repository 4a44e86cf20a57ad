"""Customers' backends on real sockets: one speaks HTTP, one sends any bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from telephony.callbacks import client
from telephony.callbacks.payloads import CallFacts

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_plJ3nmyCDGBKInavdOK15jsl"


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Backend:
    """A customer's backend: set ``answer``, read ``received``."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Handler | None = None
    connections: set[Any] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append(Received(request.path, request.headers, await request.read()))
        self.connections.add(request.transport)
        return await self.answer(request) if self.answer else web.json_response({})

    def answers(self, status: int = 200, body: Any = None, **headers: str) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status, headers=headers)

        self.answer = answer

    def answers_bytes(self, body: bytes) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(body=body)

        self.answer = answer


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    async with AsyncExitStack() as stack:
        backend.url = f"http://127.0.0.1:{await serve(backend, stack)}"
        yield backend
        await client.close()


async def serve(backend: Backend, stack: AsyncExitStack, tls: ssl.SSLContext | None = None) -> int:
    """Start a backend that stops with ``stack``; return its port."""
    app = web.Application(client_max_size=8 * 2**20)
    app.router.add_route("*", "/{path:.*}", backend.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    return int(runner.addresses[0][1])


RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def raw_backend() -> AsyncIterator[Callable[[RawHandler], Awaitable[str]]]:
    """Start a server whose handler sends any bytes; return its URL."""
    async with AsyncExitStack() as stack:

        async def start(handler: RawHandler) -> str:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await reader.readuntil(b"\r\n\r\n")
                    await handler(reader, writer)
                except (ConnectionError, asyncio.IncompleteReadError):
                    pass
                finally:
                    writer.close()

            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            stack.callback(server.close)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        yield start
        await client.close()


@dataclass
class Names:
    """Host names below ``.test`` and their addresses; others are looked up normally."""

    addresses: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    delays: dict[str, Callable[[], Any]] = field(default_factory=dict)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(host, str) and host.endswith(".test")):
            return look_up(host, port, *args, **kwargs)
        names.asked.append(host)
        if wait := names.delays.get(host):
            wait()
        if host not in names.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [_addr_info(address, port) for address in names.addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


def _addr_info(address: str, port: int) -> tuple[Any, ...]:
    if ip_address(address).version == 6:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for ``backend.test``."""

    path: Path
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "backend.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("backend.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "backend.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return Certificate(path, server)


@pytest.fixture
def facts() -> CallFacts:
    return CallFacts(
        call_sid="CA" + "0" * 32,
        caller_phone="+19805551234",
        called_number="+15551234567",
        direction="inbound",
        metadata={"customerId": "cust_123"},
    )
