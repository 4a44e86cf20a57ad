"""The HTTP client for customers' backends. It connects only to public addresses.

The customer chooses the URL and controls the server, so the client trusts nothing: not the name,
not its addresses, not the speed, the size or the encoding of the response.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import ip_address
from typing import ClassVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings

from core.version import VERSION
from telephony.callback_urls import callback_url_problem, is_public_address
from telephony.callbacks.sliced_parsing import Connector, Padded
from telephony.engine.bounds import clipped

LARGEST_ANSWER = 2**20
# Pieces of one response. Each costs the event loop time, even if it has one byte.
MOST_PIECES = 4_096
# Node closes an idle connection after 5 s. Close it first: otherwise a request may meet a closing
# connection and fail (a POST is not sent twice).
KEEP_IDLE_SECONDS = 4.0

# A slow name server can block a thread for a long time. These threads serve only look-ups; the
# client starts one at a time for each name.
_lookups = ThreadPoolExecutor(64, thread_name_prefix="callback-lookup")

_Session = AsyncGenerator[aiohttp.ClientSession]
_sessions: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, _Session]] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """A backend's response: any status, at most 1 MiB, ``Retry-After`` in seconds if present."""

    status: int
    body: bytes
    retry_after: float | None


class CallbackFailed(Exception):
    """There is no response. ``reason`` says why in a few words, without the URL's path or query."""

    code: ClassVar[str]

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TimedOut(CallbackFailed):
    code = "timeout"


class Unreachable(CallbackFailed):
    code = "unreachable"


class BlockedAddress(CallbackFailed):
    code = "blocked_address"


class TooLarge(CallbackFailed):
    code = "too_large"


class BadUrl(CallbackFailed):
    code = "bad_url"


class TlsFailed(CallbackFailed):
    code = "tls"


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float,  # noqa: ASYNC109 (callers need CallbackFailed, not a TimeoutError)
    at_most: int = LARGEST_ANSWER,
) -> Answer:
    """POST JSON; ``timeout`` in seconds covers everything from the look-up to the last byte.

    The response may have ``at_most`` bytes, decompressed. Redirects are not followed. Raises
    :class:`CallbackFailed`.
    """
    if problem := callback_url_problem(url):
        raise BadUrl(problem)
    try:
        async with asyncio.timeout(timeout):
            return await _post(url, body, headers, at_most)
    except TimeoutError:
        raise TimedOut(f"no response within {timeout:g} seconds") from None
    except (aiohttp.ClientError, OSError) as error:
        raise _failure(error) from None


async def close() -> None:
    """Close this event loop's connections. The end of ``asyncio.run`` also does."""
    if kept := _sessions.get(asyncio.get_running_loop()):
        _, opened = kept
        await opened.aclose()


async def _post(url: str, body: bytes, headers: Mapping[str, str], at_most: int) -> Answer:
    session = await _session()
    async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
        return Answer(
            status=response.status,
            body=await _read(response, at_most),
            retry_after=retry_after_seconds(
                response.headers.get("Retry-After", ""), datetime.now(UTC)
            ),
        )


async def _read(response: aiohttp.ClientResponse, at_most: int) -> bytes:
    """Read the body in pieces while it is decompressed: a small one may expand without end."""
    body = bytearray()
    pieces = 0
    while not response.content.at_eof():  # iter_chunks() never ends without a body
        piece, _ = await response.content.readchunk()
        body += piece
        pieces += bool(piece)  # a chunk ends with an empty one
        if len(body) > at_most:
            raise TooLarge(f"the response has more than {at_most // 1024:,} KB")
        if pieces > MOST_PIECES:
            raise TooLarge(f"the response comes in more than {MOST_PIECES:,} pieces")
    return bytes(body)


def retry_after_seconds(value: str, now: datetime) -> float | None:
    """Return the seconds of ``Retry-After``, a number or an HTTP date; None if it is neither."""
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())


async def _session() -> aiohttp.ClientSession:
    """Return this event loop's session; open it the first time."""
    loop = asyncio.get_running_loop()
    if loop not in _sessions:
        opened = _open_session(loop)
        # Nothing in _open_session waits before it yields, so no other task can run in between.
        _sessions[loop] = await anext(opened), opened
    return _sessions[loop][0]


async def _open_session(loop: asyncio.AbstractEventLoop) -> _Session:
    """Keep a session open, in a generator, because an event loop closes those when it ends."""
    connector = Connector(
        ssl=_tls(),
        resolver=_Resolver(),
        socket_factory=_guarded_socket,
        keepalive_timeout=KEEP_IDLE_SECONDS,
        limit=0,  # one slow host could otherwise use up the connections of all others
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # post() sets the time limit
        headers={"Content-Type": "application/json", "User-Agent": f"Switchhook/{VERSION}"},
    ) as session:
        try:
            yield session
        finally:
            _sessions.pop(loop, None)


@cache
def _tls() -> ssl.SSLContext:
    """Return the context of all sessions: to read the system's certificates takes a while."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Resolver(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return await asyncio.get_running_loop().run_in_executor(
            _lookups, _look_up, host, port, family
        )

    async def close(self) -> None:
        pass


def _look_up(host: str, port: int, family: int) -> list[ResolveResult]:
    try:
        found = socket.getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except UnicodeError as error:  # an empty or too long label
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from None
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=family,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for family, _, protocol, _, address in found
    ]


class _NotPublic(OSError):
    """One message for every address, so that aiohttp does not merge several into another error."""

    def __init__(self) -> None:
        super().__init__("not a public address")


def _guarded_socket(addr_info: aiohttp.AddrInfoType) -> socket.socket:
    """Create the socket for a resolved address, if it is public.

    The address that is checked here is the one that is connected to, so a name that resolves to
    something else the next time gains nothing.
    """
    family, kind, protocol, _, address = addr_info
    if not settings.CALLBACK_ALLOW_PRIVATE and not is_public_address(ip_address(address[0])):
        raise _NotPublic
    return socket.socket(family, kind, protocol)


def _failure(error: aiohttp.ClientError | OSError) -> CallbackFailed:
    """Replace an error of aiohttp, which may quote the URL or the response, with ours."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "it is for another host")
            return TlsFailed(f"the certificate is not trusted: {clipped(why, 200)}")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return TlsFailed("the TLS handshake failed")
        case aiohttp.ClientConnectorDNSError():
            return Unreachable(f"the host name {clipped(error.host, 253)} was not found")
        case aiohttp.ClientConnectorError(os_error=_NotPublic()):
            return BlockedAddress("the host has no public address")
        case aiohttp.ClientConnectorError():
            return Unreachable("no connection")
        case Padded():
            return TooLarge("the response has too much data around its body")
        case aiohttp.InvalidURL():
            return BadUrl("the URL is not valid")
        case aiohttp.ClientResponseError():
            return Unreachable("the response is not valid HTTP")
        case _:
            return Unreachable("the connection was closed before the end of the response")
