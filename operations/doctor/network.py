"""The doctor's connections: DNS, TCP, TLS and HTTP, each with a deadline and a plain reason.

Standard library only: what matters here is what exactly failed.
"""

from __future__ import annotations

import base64
import http.client
import re
import secrets
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

UPGRADED = 101
CONNECT_WITHIN_S = 5.0
RESPOND_WITHIN_S = 8.0
_LARGEST_BODY = 2**16
_LENGTH_FOLLOWS = 126  # in two bytes

_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


class Unreachable(Exception):
    """There is no connection. The message is the rest of a sentence about the address."""


class NoResponse(Unreachable):
    """There is a connection, but no response."""


@dataclass(frozen=True)
class Response:
    """A response, with the names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Place:
    """A URL's host and port, and whether it is encrypted."""

    url: SplitResult

    @classmethod
    def of(cls, url: str) -> Place:
        return cls(urlsplit(url))

    @property
    def host(self) -> str:
        return self.url.hostname or ""

    @property
    def port(self) -> int:
        return self.url.port or _PORTS[self.url.scheme]

    @property
    def is_encrypted(self) -> bool:
        return self.url.scheme in ("https", "wss")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def as_http(url: str) -> str:
    """Return the URL of a WebSocket as that of an ordinary request; any other unchanged."""
    return re.sub("^ws", "http", url)


def addresses_of(place: Place) -> list[str]:
    """Return the host's addresses; raise :class:`Unreachable`."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"has no address ({_reason(error)})") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def connect(place: Place) -> socket.socket:
    """Return a TCP connection to any of the host's addresses; raise :class:`Unreachable`."""
    addresses_of(place)
    try:
        return socket.create_connection((place.host, place.port), timeout=CONNECT_WITHIN_S)
    except OSError as error:
        raise Unreachable(f"does not accept connections ({_reason(error)})") from None


def request(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    sent: bytes | None = None,
    *,
    is_trusted: bool = False,
) -> Response:
    """Send a request; raise :class:`Unreachable` or ``ssl.SSLError``.

    It follows no redirect.

    :param is_trusted: whether the certificate must be valid. The doctor checks certificates of its
        own URLs apart, and then looks what is behind them all the same.
    """
    with _connection(url, is_trusted=is_trusted) as connection:
        connection.request(method, _path(url), sent, {**_host(url), **(headers or {})})
        with connection.getresponse() as response:
            body = response.read(_LARGEST_BODY)
            return Response(response.status, _known(response.headers), body)


def first_message(url: str, headers: Mapping[str, str]) -> Response:
    """Open a WebSocket; return its first message as the body with status 101, or the refusal.

    Raises what :func:`request` raises. The connection is closed at once.
    """
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
    }
    sent = {**_host(url), **upgrade, **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    with (
        _connection(url, is_trusted=False) as connection,
        connection.sock.makefile("rb") as file,
    ):
        connection.sock.sendall(f"GET {_path(url)} HTTP/1.1\r\n{head}\r\n".encode())
        found = re.match(rb"HTTP/1\.[01] (\d{3})", file.readline(_LARGEST_BODY))
        if found is None:
            raise NoResponse("does not speak HTTP")
        status, known = int(found[1]), _known(http.client.parse_headers(file))
        return Response(status, known, _frame(file) if status == UPGRADED else b"")


def _frame(file: IO[bytes]) -> bytes:
    """Return the payload of a server's frame, or b"" if none comes.

    It is short and has no mask (RFC 6455, 5.2).
    """
    with suppress(TimeoutError, ConnectionError):
        _, length = file.read(2).ljust(2, b"\0")
        if length == _LENGTH_FOLLOWS:
            length = int.from_bytes(file.read(2))
        return file.read(length)
    return b""


def _path(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _host(url: str) -> dict[str, str]:
    return {"Host": urlsplit(url).netloc, "User-Agent": "Switchhook-doctor"}


def _known(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def _connection(url: str, *, is_trusted: bool) -> Iterator[Any]:
    """Connect, and turn what can go wrong then into a plain reason."""
    place = Place.of(url)
    connection: Any = http.client.HTTPConnection(place.host, place.port)
    connection.sock = connect(place)
    with closing(connection):
        if place.is_encrypted:
            context = _trusting() if is_trusted else _any_certificate()
            connection.sock = _encrypted(connection.sock, context, place.host)
        connection.sock.settimeout(RESPOND_WITHIN_S)
        try:
            yield connection
        except TimeoutError:
            raise NoResponse(f"does not respond within {RESPOND_WITHIN_S:g} seconds") from None
        except (ConnectionError, http.client.HTTPException) as error:
            raise NoResponse(f"closes the connection ({_reason(error)})") from None


def certificate_of(place: Place) -> dict[str, Any]:
    """Return the host's valid certificate; raise :class:`Unreachable` or ``ssl.SSLError``."""
    with closing(connect(place)) as plain, _encrypted(plain, _trusting(), place.host) as encrypted:
        certificate: dict[str, Any] = encrypted.getpeercert() or {}
        return certificate


def _encrypted(plain: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLError:
        raise
    except OSError as error:
        raise Unreachable(f"does not negotiate TLS ({_reason(error)})") from None


def _trusting() -> ssl.SSLContext:
    return ssl.create_default_context()


def _any_certificate() -> ssl.SSLContext:
    """Accept any certificate: nothing that is sent with it helps a stranger."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
