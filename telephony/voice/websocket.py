"""The websockets of a call, both sides, behind a small interface. Only this module knows picows.

It is thin on purpose: a message in a single frame costs one Python call more than picows alone.
There is no compression. Text is passed on as the bytes it arrived in, unchecked.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import re
import ssl
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from multidict import MultiMapping
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

from core.logs import log_scope
from telephony.voice.listening_socket import ListeningSocket

log = logging.getLogger(__name__)

# Silent: the handler is told of failures, and at its lowest level picows logs the upgrade request
# with its Authorization header.
_picows_log = logging.getLogger(f"{__name__}.picows")
_picows_log.setLevel(logging.CRITICAL)
# The transports warn of each write to a connection that has just broken. Drop those warnings.
logging.getLogger("aiofastnet").setLevel(logging.ERROR)

# RFC 6455, section 7.4.1.
NORMAL = 1000
PROTOCOL_ERROR = 1002
NO_CODE = 1005
CONNECTION_LOST = 1006
POLICY_VIOLATION = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011

# How much of a client's data the kernel buffers for us: picows reads all of it, and handles it, in
# one turn of the event loop. A second of a call's audio needs a quarter of it.
_RECEIVE_BUFFER = 16 * 1024

# The minimum pause in reading from a peer that sends too much. A few times a second is enough.
_HELD_S = 0.25

# How many frames to count before checking the clock: CPython caches integers up to 256.
_COUNTED = 250

# A control frame holds 125 bytes; two of them are the close code.
_LONGEST_REASON = 123

# aiofastnet takes half a megabyte per TLS connection by default. One TLS record is enough.
_TLS_BUFFER = 16 * 1024 + 64

# Used for every frame: a global is faster than an enum's attribute.
_CONTINUATION = WSMsgType.CONTINUATION
_TEXT = WSMsgType.TEXT
_PING = WSMsgType.PING
_PONG = WSMsgType.PONG
_CLOSE = WSMsgType.CLOSE


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a socket: what it buffers (bytes) and how long it waits (seconds)."""

    message: int = 1 << 20
    # A peer is blocked when it has more than this unsent, about 15 seconds of audio.
    unsent: int = 256 << 10
    # After this long without a frame, ping the peer. Without a reply, the connection is lost.
    idle: float = 15.0
    ping_answer: float = 10.0
    close_answer: float = 2.0
    # Frames of any kind to read per second, and at once after silence or a stall. A peer that sends
    # more has to wait.
    rate: float = math.inf
    burst: int = sys.maxsize
    # Frames and bytes that a peer may send before it is identified. Beyond that the socket is
    # closed with 1008.
    unidentified: tuple[int, int] | None = None


_DEFAULT_LIMITS = Limits()


class ConnectFailed(Exception):
    """There is no connection; ``status`` is the HTTP status of the refusal, if there was one."""

    def __init__(self, status: int | None, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


#: Converts a message for the other side; None if the message is not to be relayed.
Relay = Callable[[bytes], bytes | None]


class Handler:
    """The callbacks of one side for its socket. All are called in the event loop.

    An exception is logged without its message, which might quote the caller, and closes the socket
    with 1011. ``names`` are added to that line.
    """

    names: Mapping[str, str] = MappingProxyType({})

    def on_open(self, socket: Socket) -> None:
        """Called when the upgrade is complete."""

    def on_message(self, text: bytes) -> None:
        """Called with one whole message, text or binary. Never called once the socket is closed."""

    def on_close(self, code: int, reason: str) -> None:
        """Called once for each ``on_open`` when the connection is gone, however it ended.

        The code is from the side that closed first, the peer (1005: it sent none) or us; 1006 means
        that the connection broke or a ping got no reply.
        """

    def on_blocked(self) -> None:
        """Called when the peer does not keep up: ``send`` then queues. May be called within
        ``send``.
        """

    def on_unblocked(self) -> None:
        """Called when the peer has caught up."""


class Socket:
    """One websocket. It belongs to its event loop's thread."""

    __slots__ = (
        "_ending",
        "_is_paused",
        "_limits",
        "_side",
        "_timer",
        "_transport",
        "headers",
        "path",
        "peer",
        "send",
    )

    def __init__(self, side: _Side, transport: WSTransport, limits: Limits) -> None:
        self._side = side
        self._transport = transport
        #: Sends a text message; it is dropped once the socket is closed.
        self.send: Callable[[bytes], None] = functools.partial(transport.send, _TEXT)
        self._limits = limits
        self._ending: tuple[int, str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        #: The peer's address, which may be a proxy's.
        self.peer = str(transport.underlying_transport.get_extra_info("peername")[0])
        #: The path (and query) that the client requested.
        self.path = transport.request.path.decode("latin-1")
        #: The headers of the upgrade request, case-insensitive.
        upgrade = transport.response if transport.is_client_side else transport.request
        self.headers: MultiMapping[str] = upgrade.headers

    @property
    def is_open(self) -> bool:
        """True until either side closes."""
        return not (self._transport.is_close_frame_sent or self._transport.is_disconnected)

    @property
    def arrivals(self) -> object:
        """A value that differs from an earlier one if a frame has arrived since."""
        return self._side._granted_at, self._side._left

    def relay_to(self, other: Socket, relay: Relay) -> None:
        """Send ``other`` the result of ``relay`` for each message that arrives in a single frame.

        If the result is None, the message goes to the handler. Control frames are offered too, so
        ``relay`` must recognize its messages by their content.
        """
        if self.is_open:
            self._side.relay, self._side.relays_to = relay, other._transport

    def relay_nothing(self) -> None:
        """Undo :meth:`relay_to`: messages go to the handler again."""
        self._side.relay = _relays_nothing

    def identified(self) -> None:
        """Lift the limit for unidentified peers: ``rate`` and ``burst`` apply from now on."""
        self._side.identified()

    def admit(self) -> None:
        """Admit the peer: the listener no longer closes it to make room for others."""
        if self._side.listener is not None:
            file = self._transport.underlying_transport.get_extra_info("socket").fileno()
            self._side.listener._listening_socket.admit(file)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close after everything sent so far.

        ``on_close`` follows once the peer replies or times out. ``reason`` is cut to
        123 bytes. Does nothing if the socket is closed already.
        """
        if self.is_open:
            self._end(code, reason)
            self.resume_reading()  # to see the peer's reply
            clipped = reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
            self._transport.send_close(WSCloseCode(code), clipped)
        elif not self._transport.is_disconnected:
            self._break_soon()  # picows, which may have closed it, waits until all is sent

    def abandon(self) -> None:
        """Close the socket, and tell its handler no more of it, nor that it closed."""
        self._side.forget_handler()
        self.close()

    def pause_reading(self) -> None:
        """Stop reading, so that the peer waits. Messages that have arrived are still delivered."""
        self._is_paused = True
        self._stop_reading()

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`."""
        self._is_paused = False
        self._read_on()

    def _stop_reading(self) -> None:
        self._transport.underlying_transport.pause_reading()
        self._transport.notify_user_specific_pong_received()  # while paused, a pong would go unseen

    def _read_on(self) -> None:
        if not (self._is_paused or self._side.is_held):
            self._transport.underlying_transport.resume_reading()

    def _end(self, code: int, reason: str) -> None:
        """Record how the socket ends, and break the connection if the peer does not end it too."""
        self._side.relay = _relays_nothing
        self._ending = (code, reason)
        self._break_soon()

    def _break_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                self._limits.close_answer, self._transport.disconnect, False
            )


class Listener:
    """A listening port; ``open_sockets`` counts the open sockets that came through it."""

    def __init__(self, listening_socket: ListeningSocket) -> None:
        self.open_sockets = 0
        self._listening_socket = listening_socket
        self._server: asyncio.Server

    @property
    def port(self) -> int:
        """The port in use, also if 0 was requested. Not readable after :meth:`close`."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def waiting(self) -> int:
        """The number of connections that are not yet admitted with :meth:`Socket.admit`."""
        return len(self._listening_socket.waiting)

    def close(self) -> None:
        """Accept no more connections. Open sockets stay open."""
        self._server.close()


async def connect(
    url: str,
    *,
    headers: Mapping[str, str],
    handler: Handler,
    timeout: float,  # noqa: ASYNC109 (picows needs it as well)
    limits: Limits = _DEFAULT_LIMITS,
) -> Socket:
    """Open a socket to a ``ws://`` or ``wss://`` URL; raise :class:`ConnectFailed`.

    ``timeout`` (seconds) covers everything: DNS, TCP, TLS and the upgrade. ``on_open`` is called
    before this returns. A redirect is a refusal, since ``headers`` may hold credentials.
    """
    if any(re.search(r"[\0\r\n]", name + value) for name, value in headers.items()):
        raise ValueError("A header holds a line break.")
    side = _Side(handler, limits)
    opening = asyncio.create_task(_open(side, url, headers, timeout, limits))
    try:
        # Cancelled together with its caller, it could leave a socket open: asyncio's race between
        # addresses forgets one that has just won. It closes by itself what opens too late.
        await asyncio.shield(opening)
    except asyncio.CancelledError:
        side.abandon()
        opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody else
        raise
    return side.socket


async def _open(
    side: _Side,
    url: str,
    headers: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 (picows needs it as well)
    limits: Limits,
) -> None:
    try:
        async with asyncio.timeout(timeout):
            await ws_connect(
                lambda request, response: side,
                url,
                extra_headers=headers,
                max_redirects=0,
                websocket_handshake_timeout=timeout,
                # A dead first address costs a quarter of a second, not the whole timeout.
                happy_eyeballs_delay=0.25,
                **_options(limits),
                **(_tls_options() if url.startswith("wss:") else {}),
            )
        if not side.is_connected:
            raise ConnectionError("The connection was closed before the upgrade.")
    except (OSError, UnicodeError, WSError) as error:
        side.abandon()
        raise _connect_failed(error, timeout) from None
    except BaseException:
        side.abandon()
        raise


async def listen(
    host: str,
    port: int,
    accept: Callable[[str, Mapping[str, str]], Handler | None],
    *,
    limits: Limits = _DEFAULT_LIMITS,
    most_waiting: int = sys.maxsize,
) -> Listener:
    """Listen on a port that several processes may share; raise :class:`OSError`.

    At most ``most_waiting`` connections may be unadmitted (:meth:`Socket.admit`); beyond that the
    oldest are closed. ``accept`` gets the path and headers of each request and returns the handler
    of the socket, or None for a 404. It runs before the upgrade is checked: if ``on_open`` is never
    called, neither are the handler's other methods.
    """
    listening_socket = ListeningSocket(
        host, port, most_waiting=most_waiting, receive_buffer=_RECEIVE_BUFFER
    )
    listener = Listener(listening_socket)
    listener._server = await ws_create_server(
        functools.partial(_accepted, accept, limits, listener),
        sock=listening_socket,
        backlog=1024,
        read_buffer_init_size=4096,  # a dozen media messages
        **_options(limits),
    )
    return listener


def _relays_nothing(text: bytes) -> None:
    return None


class _Side(WSListener):
    """The picows listener of a handler."""

    # Used for every frame: a slot is faster than a dictionary that is not in the CPU's cache.
    __slots__ = (
        "_fragments",
        "_granted_at",
        "_handler",
        "_hold",
        "_is_abandoned",
        "_is_blocked",
        "_left",
        "_limits",
        "_on_message",
        "_saved",
        "_unanswered",
        "_unidentified",
        "is_connected",
        "is_held",
        "listener",
        "relay",
        "relays_to",
        "socket",
    )
    socket: Socket  # once connected
    relays_to: WSTransport  # once it relays

    def __init__(self, handler: Handler, limits: Limits, listener: Listener | None = None) -> None:
        self.is_connected = False
        self._handler = handler
        self._on_message = handler.on_message
        self.relay: Relay = _relays_nothing
        self._limits = limits
        self.listener = listener
        self._fragments: bytearray | None = None
        self._is_abandoned = False
        self._unidentified = limits.unidentified
        # How many frames may come before the next check of the clock, how many more may follow
        # then, and the time of the last check.
        self._left = 0
        self._saved = limits.burst
        self._granted_at = 0.0
        #: Whether reading is stopped because the peer has sent too much.
        self.is_held = False
        self._hold: asyncio.TimerHandle | None = None
        self._is_blocked = False
        self._unanswered: bytes | None = None

    def forget_handler(self) -> None:
        self._handler = _NOBODY._handler
        self._on_message = self._handler.on_message

    def abandon(self) -> None:
        """Close the socket, even if it opens only later: nothing waits for it any more."""
        self._is_abandoned = True
        if self.is_connected:
            self.socket.close()

    def on_ws_connected(self, transport: WSTransport) -> None:
        if self._is_abandoned:
            transport.disconnect(graceful=False)
            return
        unsent = self._limits.unsent
        transport.underlying_transport.set_write_buffer_limits(high=unsent, low=unsent // 4)
        self.socket = Socket(self, transport, self._limits)
        self.is_connected = True
        self._granted_at = asyncio.get_running_loop().time()
        if self.listener is not None:
            self.listener.open_sockets += 1
        self._tell(self._handler.on_open, self.socket)

    def identified(self) -> None:
        self._unidentified = None
        self._granted_at = asyncio.get_running_loop().time()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._left -= 1
        if self._left < 0 and not self._may_send(frame):
            return
        try:
            if frame.fin:
                relay = self.relay  # calling a slot is slower than calling a variable
                message = relay(frame.get_payload_as_bytes())
                if message is not None:
                    self.relays_to.send(_TEXT, message)
                    return
        except Exception as error:
            self._failed(error)
            return
        kind = frame.msg_type
        if kind is _CLOSE:
            self._peer_closes(transport, frame)
            return
        if kind is _PONG or transport.is_close_frame_sent:
            return
        if kind is _PING:
            self._answer_ping(transport, frame.get_payload_as_bytes())
            return
        if frame.fin and kind is not _CONTINUATION and self._fragments is None:
            message = frame.get_payload_as_bytes()
        elif (message := self._joined(frame)) is None:
            return
        try:
            self._on_message(message)
        except Exception as error:
            self._failed(error)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.is_connected:
            return
        socket = self.socket
        if socket._timer is not None:
            socket._timer.cancel()
        if self._hold is not None:
            self._hold.cancel()
        if self.listener is not None:
            self.listener.open_sockets -= 1
        self._tell(self._handler.on_close, *(socket._ending or _broken(transport)))
        # Break reference cycles: they would stay in memory until a full garbage collection.
        socket._side = _NOBODY
        self.forget_handler()

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._tell(self._handler.on_blocked)

    def resume_writing(self) -> None:
        self._is_blocked = False
        if (ping := self._unanswered) is not None:
            self._unanswered = None
            self.socket._transport.send_pong(ping)
        self._tell(self._handler.on_unblocked)

    def send_user_specific_ping(self, transport: WSTransport) -> None:
        if transport.underlying_transport.is_reading():
            transport.send_ping()
        else:
            # We stopped reading, so the silence is not the peer's.
            call_soon = asyncio.get_running_loop().call_soon
            call_soon(transport.notify_user_specific_pong_received)

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        # Called only while a ping has no reply. Any frame shows that the peer is there.
        self.socket._transport.notify_user_specific_pong_received()
        return frame.msg_type is _PONG

    def _may_send(self, frame: WSFrame) -> bool:
        """Return True if a frame beyond the granted number may still be handled."""
        if self._unidentified is None:
            self._grant()
            return True
        self._left = 0
        frames, size = self._unidentified
        self._unidentified = (frames - 1, size - frame.payload_size)
        if min(self._unidentified) >= 0:
            return True
        if not self.is_held:
            self.is_held = True  # for good: the reply to our close may be behind much else
            self.socket.close(POLICY_VIOLATION, "Too much data arrived before the start message.")
            self.socket._stop_reading()
        return False

    def _grant(self) -> None:
        """Grant the frames earned since the last check, or make the peer wait for them."""
        if self.is_held:
            return
        now, limits = asyncio.get_running_loop().time(), self._limits
        passed, self._granted_at = now - self._granted_at, now
        earned = limits.burst if limits.rate == math.inf else int(passed * limits.rate)
        saved = min(self._saved + self._left + earned, limits.burst)
        self._left = min(saved, _COUNTED)
        self._saved = saved - self._left
        if self._left < 0:
            self.is_held = True
            self.socket._stop_reading()
            within = max(-self._left / self._limits.rate, _HELD_S)
            self._hold = asyncio.get_running_loop().call_later(within, self._let_go)

    def _let_go(self) -> None:
        self.is_held = False
        self._grant()
        self.socket._read_on()

    def _answer_ping(self, transport: WSTransport, payload: bytes) -> None:
        """Reply; if the peer does not read, reply later to the last ping only (RFC 6455, 5.5.3)."""
        if self._is_blocked:
            self._unanswered = payload
        else:
            transport.send_pong(payload)

    def _joined(self, frame: WSFrame) -> bytes | None:
        """Add a fragment; return the message if this was the last one."""
        if (frame.msg_type is _CONTINUATION) is (self._fragments is None):
            self.socket.close(PROTOCOL_ERROR, "A fragment is out of order.")
            return None
        fragments = self._fragments = self._fragments or bytearray()
        if len(fragments) + frame.payload_size > self._limits.message:
            self.socket.close(TOO_BIG, f"A message exceeds {self._limits.message} bytes.")
            return None
        fragments += frame.get_payload_as_memoryview()
        if not frame.fin:
            return None
        self._fragments = None
        return bytes(fragments)

    def _peer_closes(self, transport: WSTransport, frame: WSFrame) -> None:
        """Reply to the peer's close, unless it is the reply to ours, and disconnect."""
        if self.socket.is_open:
            code = frame.get_close_code().value
            self.socket._end(code or NO_CODE, frame.get_close_reason() or "")
            transport.send_close(WSCloseCode(code or NORMAL))
        transport.disconnect()

    def _tell(self, method: Callable[..., None], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        with log_scope(**self._handler.names):
            _log_failure("A websocket's handler", error)
        self.socket.close(INTERNAL_ERROR)


_NOBODY = _Side(Handler(), _DEFAULT_LIMITS)


def _accepted(
    accept: Callable[[str, Mapping[str, str]], Handler | None],
    limits: Limits,
    listener: Listener,
    request: WSUpgradeRequest,
) -> _Side | WSUpgradeResponseWithListener | None:
    """Return the picows response to a request: a handler's side, a 500, or None for a 404."""
    try:
        handler = accept(request.path.decode("latin-1"), request.headers)
    except Exception as error:
        _log_failure("Accepting a websocket", error)
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(500), None)
    if handler is None:
        return None
    # A list that contains "upgrade" is valid too (RFC 6455, section 4.2.1), but picows expects only
    # that.
    connection = ",".join(request.headers.getall("Connection", ()))
    if "upgrade" in (option.strip().lower() for option in connection.split(",")):
        request.headers["Connection"] = "upgrade"
    return _Side(handler, limits, listener)


def _options(limits: Limits) -> dict[str, Any]:
    """Return the picows options of both sides."""
    return {
        "logger_name": _picows_log,
        "max_frame_size": limits.message,
        "enable_auto_pong": False,  # a peer that does not read would fill the memory
        "enable_auto_ping": True,
        "auto_ping_idle_timeout": limits.idle,
        "auto_ping_reply_timeout": limits.ping_answer,
        # The plain event loops keep a reference to a buffer that picows reuses for its next write.
        "use_aiofastnet": True,
    }


def _tls_options() -> dict[str, Any]:
    return {
        "ssl_context": _client_tls(),
        "ssl_incoming_bio_size": _TLS_BUFFER,
        "ssl_outgoing_bio_size": _TLS_BUFFER,
    }


@functools.cache
def _client_tls() -> ssl.SSLContext:
    """Return the shared context of all clients: loading the certificates takes memory and time."""
    return ssl.create_default_context()


def _connect_failed(error: Exception, timeout: float) -> ConnectFailed:
    """Describe why there is no connection, without quoting what the peer sent."""
    if isinstance(error, WSHandshakeError):
        # Not the parsed response: it lacks statuses that Python does not know, such as 520.
        status = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", error.raw_header or b"")
        if status is None or status[1] == b"101":
            return ConnectFailed(None, "The response is not a websocket upgrade.")
        return ConnectFailed(int(status[1]), f"The upgrade was refused with {int(status[1])}.")
    if isinstance(error, TimeoutError):
        return ConnectFailed(None, f"No connection within {timeout:.2g} seconds.")
    return ConnectFailed(None, str(error))


def _broken(transport: WSTransport) -> tuple[int, str]:
    """Return code and reason of a connection that neither side closed through its :class:`Socket`.

    picows itself closes when the peer breaks the protocol, and with 1001 after a lost ping.
    """
    sent = transport.close_handshake.sent if transport.close_handshake else None
    if sent is None or sent.code == WSCloseCode.GOING_AWAY:
        return CONNECTION_LOST, sent.reason if sent else "The connection was lost."
    return sent.code.value, sent.reason


def _log_failure(what: str, error: Exception) -> None:
    # The traceback without its last line: an exception's message may quote the conversation.
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s failed: %s\n%s", what, type(error).__name__, where)
