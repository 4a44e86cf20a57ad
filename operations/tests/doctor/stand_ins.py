"""Servers that an installation is made of, in threads of the test: real sockets, and faults."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from core.tests.waiting import until
from telephony.voice import media, websocket
from telephony.voice.live import LiveCalls
from telephony.voice.unadmitted import UnadmittedSockets

WsgiApp = Callable[[MutableMapping[str, Any], Callable[..., Any]], Any]

ENGINE_ID = "engine-behind-the-socket"


class Authority:
    """A certificate authority, and the folder with its certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The tests")])
        now = datetime.now(UTC)
        made = self._builder(self._name, self._key, now - timedelta(days=30), now + timedelta(90))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.path = folder / "authority.pem"
        self.path.write_bytes(made.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def context(self, name: str = "localhost", *, days: int = 60) -> ssl.SSLContext:
        """Return a server's side of TLS, with a certificate for a name."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        until = now + timedelta(days=days, hours=1)
        made = self._builder(subject, key, now - timedelta(days=20), until)
        names = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        path = self._folder / f"{name}{days}.pem"
        path.write_bytes(
            made.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, since: datetime, until: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
        )


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """Say nothing: clients that refuse a certificate go away."""


class Site:
    """A server over TLS, with a proxy in front that changes the requests: ``proxy``."""

    def __init__(self, app: WsgiApp, context: ssl.SSLContext) -> None:
        self._first = app, context
        self.reset()
        self._server = make_server("localhost", 0, self._serve, _Server, _Quiet)
        self._server.get_request = self._get_request  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self.url = f"https://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def reset(self) -> None:
        """Be as at the start: nothing is wrong."""
        self.app, self._context = self._first
        self.proxy: Callable[[MutableMapping[str, Any]], None] = well_behaved

    def use(self, context: ssl.SSLContext) -> None:
        self._context = context

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _get_request(self) -> tuple[Any, Any]:
        plain, peer = self._server.socket.accept()
        return self._context.wrap_socket(plain, server_side=True), peer

    def _serve(self, environ: MutableMapping[str, Any], start: Callable[..., Any]) -> Any:
        self.proxy(environ)
        return self.app(environ, start)


def well_behaved(environ: MutableMapping[str, Any]) -> None:
    """Do what a proxy must do."""
    sets_scheme(environ)
    appends_address(environ)


def sets_scheme(environ: MutableMapping[str, Any]) -> None:
    environ["HTTP_X_FORWARDED_PROTO"] = "https"


def appends_address(environ: MutableMapping[str, Any]) -> None:
    came = environ.get("HTTP_X_FORWARDED_FOR")
    entries = [*([came] if came else []), "192.0.2.1"]
    environ["HTTP_X_FORWARDED_FOR"] = ", ".join(entries)


def static(status: str, body: bytes = b"", *, clock_ahead: timedelta = timedelta()) -> WsgiApp:
    """Return an app that gives one response, with a Date that may be wrong."""

    def app(environ: MutableMapping[str, Any], start: Callable[..., Any]) -> Any:
        date = (datetime.now(UTC) + clock_ahead).strftime("%a, %d %b %Y %H:%M:%S GMT")
        start(status, [("Date", date), ("Content-Length", str(len(body)))])
        return [body]

    return app


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """Say nothing: clients go away when they have seen enough."""


class _Threaded:
    """A TCP server that handles each connection in ``talk``."""

    def __init__(self) -> None:
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer.talk(self.request)

        self._server = _Tcp(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def talk(self, connection: socket.socket) -> None:
        raise NotImplementedError


class SocketProxy(_Threaded):
    """The part of a proxy that passes on WebSockets. ``appends`` its client's address."""

    def __init__(self, context: ssl.SSLContext, to_port: int) -> None:
        super().__init__()
        self._context = context
        self._to_port = to_port
        self.url = f"wss://localhost:{self.port}"
        self.reset()

    def reset(self) -> None:
        self.appends = True

    def talk(self, connection: socket.socket) -> None:
        with (
            self._context.wrap_socket(connection, server_side=True) as client,
            # It gives up soon: whoever is told nothing has gone by then.
            socket.create_connection(("127.0.0.1", self._to_port), timeout=1) as server,
            suppress(TimeoutError),
        ):
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += client.recv(4096)
            if self.appends:
                name = b"X-Forwarded-For: "
                request = request.replace(name, name + b"192.0.2.9, ").replace(
                    b"192.0.2.9, 203.0.113.77", b"203.0.113.77, 192.0.2.1"
                )
            server.sendall(request)
            while data := server.recv(4096):
                client.sendall(data)


@contextmanager
def media_socket() -> Iterator[int]:
    """The media port of an engine, without its heartbeat: yield the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> websocket.Listener:
        calls, waiting = LiveCalls(ENGINE_ID), UnadmittedSockets()
        return await websocket.listen(
            "127.0.0.1", 0, lambda path, headers: media._accept(calls, waiting, path, headers)
        )

    async def close(listener: websocket.Listener) -> None:
        listener.close()
        await until(lambda: not (listener.open_sockets or listener.waiting))

    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result(5)
    try:
        yield listener.port
    finally:
        asyncio.run_coroutine_threadsafe(close(listener), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class MailServer(_Threaded):
    """A mail server with STARTTLS. ``refuses`` names the command that it refuses."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context
        self.reset()

    def reset(self) -> None:
        """Be as at the start: it takes everything."""
        self.refuses = ""
        self.has_starttls = True

    def talk(self, connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        if self._takes(connection) == "STARTTLS":
            with self._context.wrap_socket(connection, server_side=True) as encrypted:
                self._takes(encrypted)

    def _takes(self, connection: socket.socket) -> str:
        """Respond to commands; return the one after which there are none in this connection."""
        with connection.makefile("rb") as lines:
            for line in lines:
                command = line.split()[0].decode().upper()
                connection.sendall(self._response(command))
                if command in ("STARTTLS", "QUIT"):
                    return command
        return ""

    def _response(self, command: str) -> bytes:
        if command == self.refuses:
            return b"550 No.\r\n" if command == "MAIL" else b"535 No.\r\n"
        if command == "EHLO":
            offers = b"250-STARTTLS\r\n" * self.has_starttls
            return b"250-mail.example\r\n" + offers + b"250 AUTH PLAIN\r\n"
        codes = {"STARTTLS": b"220", "AUTH": b"235", "QUIT": b"221"}
        return codes.get(command, b"250") + b" Yes.\r\n"
