"""The worker of the ``web`` process: gunicorn's threads, none of which ever waits for a client.

Gunicorn's own hands a connection to a thread at once: there it waits for the request, as long as
the client likes, and for the client to take the answer. A dozen slow clients are enough to hold all
threads. Here the loop that accepts connections collects each request, and a thread sees it once it
is whole; what the client does not take of the answer at once goes back to the loop.
"""

from __future__ import annotations

import errno
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
    """The line and the headers of a request have no end."""


class Incoming:
    """A request as it comes in. Pure: bytes in, and whether they are enough.

    Its head is read by gunicorn afterwards, which refuses what is malformed; here only the length
    of its body counts. A body that is too large is not waited for, nor one of unknown length, which
    no view reads: the head is all there is of the request, and the connection ends with it.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_last = False
        self.expects_continue = False
        self._size: int | None = None

    def take(self, data: bytes) -> None:
        """Add what was read; raise :class:`HeadTooLarge`."""
        self.received += data
        if self._size is None:
            self._look_for_head()

    @property
    def is_whole(self) -> bool:
        return self._size is not None and len(self.received) >= self._size

    @property
    def is_probe(self) -> bool:
        return _PROBE.match(self.received) is not None

    def readable(self) -> bytes:
        """Return what a thread may read: all that came, or nothing after the last head."""
        return bytes(self.received[: self._size] if self.is_last else self.received)

    def _look_for_head(self) -> None:
        end = self.received.find(_HEAD_END, 2)  # one empty line may come first
        if max(end, len(self.received) if end < 0 else 0) > request_limits.HEAD:
            raise HeadTooLarge
        if end < 0:
            return
        head = bytes(self.received[: end + 2])
        length = int(found[1]) if (found := _LENGTH.search(head)) else 0
        self.is_last = length > request_limits.BODY or _ENCODED.search(head) is not None
        self._size = len(head) + 2 + (0 if self.is_last else length)
        if found := _EXPECTS.search(head):
            # What the client expects, it gets from the loop. Gunicorn would answer it too, later.
            del self.received[found.start() : found.end()]
            self._size -= found.end() - found.start()
            self.expects_continue = not self.is_whole


class Outgoing:
    """What a thread takes for the client's socket: there is nothing to read, and writing is quick.

    What the client does not take at once is kept, and ``flush`` goes on with it.
    """

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self.unsent = bytearray()

    def flush(self) -> None:
        """Send what the client takes at once; raise :class:`OSError` if it is gone."""
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
        """The socket stays as it is: it never blocks."""

    def setblocking(self, flag: bool) -> None:
        """As above."""

    def shutdown(self, how: int) -> None:
        """The loop closes it."""

    def close(self) -> None:
        """As above."""


class Connection:
    """A client's connection, as gunicorn's ``handle`` expects one that is ready to be served."""

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
        """It is, from the beginning."""

    @property
    def held(self) -> int:
        return len(self.incoming.received) + len(self.sock.unsent)


class WebWorker(ThreadWorker):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cfg.set("sendfile", False)  # it would write past ``Outgoing``
        #: Those that wait for their client, the one that has waited longest first.
        self.waiting: dict[Connection, None] = {}

    def init_process(self) -> None:
        # Whoever takes a process that answers late for one that is dead would restart it while the
        # database hangs, and all other threads wait for that. Probes that come at once wait for one
        # answer (``core.health``): they take a thread each, but not their turn.
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

    # In the loop: a request comes in.

    def _await_request(self, connection: Connection, seconds: float) -> None:
        self._wait(connection, EVENT_READ, self._read, seconds)

    def _read(self, connection: Connection) -> None:
        if data := self._received(connection):
            self._take(connection, data)

    def _take(self, connection: Connection, data: bytes) -> None:
        incoming = connection.incoming
        if not incoming.received:
            connection.timeout = time.monotonic() + request_limits.REQUEST_WITHIN_S
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
        """Return what the client has sent; close the connection if it has closed it."""
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
        answered = threads.submit(self.handle, conn)
        answered.add_done_callback(partial(self.method_queue.defer, self.finish_request, conn))

    # In a thread: it is answered.

    def handle_request(self, req: Any, conn: Connection) -> Any:
        if conn.incoming.is_last:
            req.force_close()
        return super().handle_request(req, conn)

    # In the loop again: the answer goes out, and the next request comes, or the end.

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
            # A client need not wait for an answer before it sends its next request.
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
        """Say that this was all, and wait a moment until the client has taken it and closes too."""
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

    # Waiting for clients

    def _wait(
        self, connection: Connection, event: int, then: Callable[[Connection], Any], seconds: float
    ) -> None:
        connection.timeout = time.monotonic() + seconds

        def go_on(_: Any) -> None:
            if connection in self.waiting:  # still, after what else has happened at once
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
        """End what has waited for too long; gunicorn's loop calls this once a second."""
        now = time.monotonic()
        for connection in [waiting for waiting in self.waiting if waiting.timeout <= now]:
            if connection.incoming.received:
                self._refuse(connection, 408, "Request Timeout")
            else:
                self._drop(connection)

    def _cap_keepalive(self, deadline: float) -> None:
        """Wait no longer than that; gunicorn calls this before it stops."""
        for connection in self.waiting:
            connection.timeout = min(connection.timeout, deadline)
