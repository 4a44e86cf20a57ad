"""The worker of the ``web`` process, whose threads don't wait for slow clients.

Gunicorn's own worker passes a new connection straight to a thread, which waits for the request
without a time limit, and then for the client to read the response. A dozen slow clients are enough
to block all threads. In this worker, the loop that accepts connections reads each request, and
passes it to a thread once it is complete. The loop also sends the part of the response that the
client doesn't read at once.
"""

from __future__ import annotations

import errno
import math
import re
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from gunicorn import http, util
from gunicorn.workers.gthread import ThreadWorker

from core import request_limits

_READ_SIZE = 64 << 10

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.I)
_ENCODED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.I)
_PROBE = re.compile(rb"(?:\r\n)?(?:GET|HEAD) /(?:livez|readyz)[? ]")
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.I)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HeadTooLarge(Exception):
    """The request line and headers exceed their limit."""


class Incoming:
    """A request that is still arriving: takes bytes, and tells whether it is complete. No I/O.

    Only the length of the body matters here. Gunicorn parses the head later, and refuses a
    malformed one. A body that is too large is not waited for, nor is one of unknown length, which
    no view reads. In both cases the request ends with its head, and the connection closes after it.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_last = False
        self.expects_continue = False
        self._size: int | None = None

    def take(self, data: bytes) -> None:
        """Add received bytes; raise :class:`HeadTooLarge`."""
        self.received += data
        if self._size is None:
            self._find_head()

    @property
    def is_whole(self) -> bool:
        return self._size is not None and len(self.received) >= self._size

    @property
    def is_probe(self) -> bool:
        return _PROBE.match(self.received) is not None

    def readable(self) -> bytes:
        """Return the bytes for a thread: all received, but no body if this request is the last."""
        return bytes(self.received[: self._size] if self.is_last else self.received)

    def _find_head(self) -> None:
        end = self.received.find(_HEAD_END, 2)  # an empty line may precede it
        if max(end, len(self.received) if end < 0 else 0) > request_limits.HEAD:
            raise HeadTooLarge
        if end < 0:
            return
        head = bytes(self.received[: end + 2])
        length = int(found[1]) if (found := _LENGTH.search(head)) else 0
        self.is_last = length > request_limits.BODY or _ENCODED.search(head) is not None
        self._size = len(head) + 2 + (0 if self.is_last else length)
        if found := _EXPECTS.search(head):
            # The loop sends the 100 Continue. Gunicorn would send another one later.
            del self.received[found.start() : found.end()]
            self._size -= found.end() - found.start()
            self.expects_continue = not self.is_whole


class Outgoing:
    """A stand-in for the client's socket in a thread. Nothing can be read from it.

    It buffers what the client doesn't read at once, and ``flush`` sends more of it. A write waits
    only while the buffer exceeds ``request_limits.ANSWER``.
    """

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self.unsent = bytearray()

    def flush(self) -> None:
        """Send what the client reads at once; raise :class:`OSError` if the client is gone."""
        while self.unsent:
            try:
                del self.unsent[: self._client.send(self.unsent)]
            except BlockingIOError:
                return

    def sendall(self, data: bytes) -> None:
        self.unsent += data
        self.flush()
        deadline = time.monotonic() + request_limits.ANSWER_WITHIN_S
        while len(self.unsent) > request_limits.ANSWER:
            self._wait_for_client(deadline)
            self.flush()

    def _wait_for_client(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._client, select.POLLOUT)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            self.unsent.clear()
            raise ConnectionResetError(errno.ECONNRESET, "The client does not read its answer.")

    def send(self, data: bytes) -> int:
        self.sendall(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        return b""

    def gettimeout(self) -> float:
        return 0.0

    def settimeout(self, timeout: float | None) -> None:
        """Do nothing: the socket never blocks."""

    def setblocking(self, flag: bool) -> None:
        """Do nothing: the socket never blocks."""

    def shutdown(self, how: int) -> None:
        """Do nothing: the loop closes the socket."""

    def close(self) -> None:
        """Do nothing: the loop closes the socket."""


class Connection:
    """A client's connection, with the attributes that gunicorn's ``handle`` needs."""

    is_http2 = False
    initialized = data_ready = True

    def __init__(self, cfg: Any, client: socket.socket, address: Any, server: Any) -> None:
        client.setblocking(False)
        self.socket = client
        self.client = address
        self.server = server
        self.incoming = Incoming()
        self.sock = Outgoing(client)
        self.parser = http.get_parser(cfg, self.sock, address)
        self.timeout = 0.0
        self.is_kept = False

    def init(self) -> None:
        """Do nothing: the connection is ready from the start."""

    @property
    def held(self) -> int:
        return len(self.incoming.received) + len(self.sock.unsent)


class WebWorker(ThreadWorker):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cfg.set("sendfile", False)  # it would bypass ``Outgoing``
        #: The connections that wait for their client, longest wait first.
        self.waiting: dict[Connection, None] = {}
        #: When a request must have arrived, because the worker is stopping; ``time.monotonic()``.
        self.last_request_by = math.inf

    def init_process(self) -> None:
        # If probes queued behind requests, a hanging database would delay them, and an orchestrator
        # would take the process for dead and restart it. So they have their own threads. Probes
        # that arrive together share one result (``core.health``), but each takes a thread.
        self.for_probes = ThreadPoolExecutor(32, thread_name_prefix="probes")
        super().init_process()

    def accept(self, listener: Any) -> None:
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        connection = Connection(self.cfg, client, address, listener.getsockname())
        self._await_request(connection, request_limits.REQUEST_WITHIN_S)

    # In the loop: receive a request

    def _await_request(self, connection: Connection, seconds: float) -> None:
        self._wait(connection, EVENT_READ, self._read, seconds)
        connection.timeout = self._request_by(seconds)

    def _request_by(self, seconds: float) -> float:
        return min(time.monotonic() + seconds, self.last_request_by)

    def _read(self, connection: Connection) -> None:
        if data := self._received(connection):
            self._take(connection, data)

    def _take(self, connection: Connection, data: bytes) -> None:
        incoming = connection.incoming
        if not incoming.received:
            connection.timeout = self._request_by(request_limits.REQUEST_WITHIN_S)
        try:
            incoming.take(data)
        except HeadTooLarge:
            self._refuse(connection, 431, "Request Header Fields Too Large")
            return
        if incoming.is_whole:
            self._stop_waiting(connection)
            connection.parser.unreader.unread(incoming.readable())
            self.enqueue_req(connection)
        elif incoming.expects_continue:
            incoming.expects_continue = False
            connection.sock.unsent += _CONTINUE
            self._flushed(connection)

    def _received(self, connection: Connection) -> bytes:
        """Return what the client has sent; drop the connection if the client has closed it."""
        try:
            data = connection.socket.recv(_READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
        return data

    def enqueue_req(self, conn: Connection) -> None:
        threads = self.for_probes if conn.incoming.is_probe else self.tpool
        handled = threads.submit(self.handle, conn)
        handled.add_done_callback(partial(self.method_queue.defer, self.finish_request, conn))

    # In a thread: handle the request

    def handle_request(self, req: Any, conn: Connection) -> Any:
        if conn.incoming.is_last:
            req.force_close()
        return super().handle_request(req, conn)

    # In the loop: send the response, then receive the next request or close

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        conn.is_kept = not fs.cancelled() and fs.exception() is None and bool(fs.result())
        conn.incoming = Incoming()
        self._write(conn)

    def _write(self, connection: Connection) -> None:
        if not self._flushed(connection):
            return
        if connection.sock.unsent:
            if connection not in self.waiting:
                seconds = request_limits.ANSWER_WITHIN_S
                self._wait(connection, EVENT_WRITE, self._write, seconds)
            return
        self._stop_waiting(connection)
        if connection.is_kept:
            self._await_request(connection, self.cfg.keepalive)
            # A client may send its next request before it has the response.
            if next_begun := connection.parser.unreader.take_buffered():
                self._take(connection, next_begun)
        else:
            self._close(connection)

    def _flushed(self, connection: Connection) -> bool:
        try:
            connection.sock.flush()
        except OSError:
            self._drop(connection)
            return False
        return True

    def _refuse(self, connection: Connection, status: int, reason: str) -> None:
        self._stop_waiting(connection)
        with suppress(OSError):
            util.write_error(connection.sock, status, reason, "")
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        """Close our side, and give the client a moment to read the response and close its own."""
        connection.incoming = Incoming()
        try:
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)
            return
        self._wait(connection, EVENT_READ, self._received, request_limits.LINGER_S)

    def _drop(self, connection: Connection) -> None:
        self._stop_waiting(connection)
        connection.socket.close()
        self.nr_conns -= 1

    # Wait for clients

    def _wait(
        self, connection: Connection, event: int, then: Callable[[Connection], Any], seconds: float
    ) -> None:
        connection.timeout = time.monotonic() + seconds

        def go_on(_: Any) -> None:
            if connection in self.waiting:  # another event may have ended the wait in the meantime
                then(connection)

        self.poller.register(connection.socket, event, go_on)
        self.waiting[connection] = None
        while self._are_too_many():
            self._drop(next(iter(self.waiting)))

    def _are_too_many(self) -> bool:
        held = sum(connection.held for connection in self.waiting)
        return len(self.waiting) > request_limits.WAITING or held > request_limits.WAITING_BYTES

    def _stop_waiting(self, connection: Connection) -> None:
        if connection in self.waiting:
            del self.waiting[connection]
            self.poller.unregister(connection.socket)

    def murder_pending(self) -> None:
        """End the waits that have timed out; gunicorn's loop calls this once a second."""
        now = time.monotonic()
        for connection in [waiting for waiting in self.waiting if waiting.timeout <= now]:
            if connection.incoming.received:
                self._refuse(connection, 408, "Request Timeout")
            else:
                self._drop(connection)

    def _cap_keepalive(self, deadline: float) -> None:
        """Wait for no request longer than this; gunicorn calls it when it begins to stop.

        A request that a thread handles then may leave its connection open for the next one later.
        """
        self.last_request_by = deadline
        for connection in self.waiting:
            if not connection.sock.unsent:
                connection.timeout = min(connection.timeout, deadline)
