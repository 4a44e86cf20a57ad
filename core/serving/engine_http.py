"""HTTP as an engine speaks it: gunicorn's, for clients that may do as they please."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol

from core import request_limits


class TooMuch(Exception):
    """A request sends more than it may: the status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class BoundedProtocol(ASGIProtocol):
    """Gunicorn's protocol, within ``core.request_limits``.

    Gunicorn's own waits for a request as long as the client likes, keeps whatever comes, and hands
    the application each of a million chunks. It asks the worker for ``waiting``: the protocols that
    wait for their client, the one that has waited longest first.
    """

    _closed: bool
    _task: Any
    _callback_parser: Any
    _current_request: Any
    _body_receiver: Any
    _finishing_calls: dict[Any, Any]

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._bytes = self._pieces = 0
        self._has_begun = False
        self._is_over = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_request()
        self.resume_writing()
        task = self._task
        if self._awaiting_request and not self._finishing_calls:
            self._request_ready.set()  # it ends now: gunicorn would look after it for 3 seconds
            self._task = None
        super().connection_lost(exc)
        task.add_done_callback(self._forget)

    def _forget(self, _: asyncio.Task[None]) -> None:
        """Let go of what refers back here.

        A circle is there until all of memory is searched for it, and that holds up every call: for
        0.3 s behind a thousand connections.
        """
        self._task = self._callback_parser = self._current_request = self._body_receiver = None

    def data_received(self, data: bytes) -> None:
        self._has_begun = True
        if not self._is_over:
            super().data_received(data)

    # A request comes in, whole and in time.

    def _begin_request(self) -> None:
        self._bytes = self._pieces = 0
        if self._request_timer is None:
            within = request_limits.REQUEST_WITHIN_S
            self._request_timer = self.worker.loop.call_later(within, self._give_up)
        self._wait_for_client()

    def _end_request(self) -> None:
        self.worker.waiting.pop(self, None)
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _give_up(self) -> None:
        if self._has_begun:
            self._refuse(408, "The request took too long to arrive.")
        else:  # who has asked for nothing would take an answer for that to the first request
            self._close_transport()

    def _on_headers_complete(self) -> bool:
        super()._on_headers_complete()
        self._begin_request()
        request = self._current_request
        if request.content_length <= request_limits.most_body(request.path):
            return False
        # The application says that it is too large; it does not get any of it.
        request.must_close = self._is_over = True
        return True

    def _is_websocket_upgrade(self, request: Any) -> bool:
        return False  # it is answered like any other request: media has a port of its own

    def _on_body(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        self._pieces += 1
        most = request_limits.most_body(self._current_request.path)
        if self._bytes > most:
            raise TooMuch(413, f"Send {most // 1024} KB at most.")
        if self._pieces > request_limits.PIECES:
            raise TooMuch(400, "The body comes in too many pieces: send it with a Content-Length.")
        super()._on_body(chunk)

    def _on_message_complete(self) -> None:
        self._end_request()
        super()._on_message_complete()

    def _feed_callback_parser(self, data: bytes) -> bool:
        try:
            return bool(super()._feed_callback_parser(data))
        except TooMuch as error:
            self._refuse(error.status, error.reason)
        except ValueError:  # a Content-Length of thousands of digits
            self._refuse(400, "The request is malformed.")
        return False

    def _refuse(self, status: int, reason: str) -> None:
        self._is_over = True
        self._send_error_response(status, f"{reason}\n")
        self._close_transport()
        self._request_ready.set()  # for gunicorn's own task, which sees that it is over

    def _send_error_response(self, *args: Any, **kwargs: Any) -> None:
        if (error := sys.exception()) is not None:
            # Gunicorn answers while it handles the error. The frames of some of its parser's hold
            # the error itself, and the parser.
            error.__traceback__ = None
        super()._send_error_response(*args, **kwargs)

    # Who waits for the next request is the first to make room.

    def _arm_keepalive_timer(self) -> None:
        super()._arm_keepalive_timer()
        self._wait_for_client()

    def _wait_for_client(self) -> None:
        waiting = self.worker.waiting
        waiting.setdefault(self)
        while len(waiting) > request_limits.WAITING:
            oldest = next(iter(waiting))
            del waiting[oldest]
            oldest.transport.abort()

    # The answer goes out, in time.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _close_transport(self) -> None:
        if self._is_over and not self._closed:
            # A client that still sends would be reset, and might not see the answer.
            self._closed = True
            if not self.transport.is_closing():
                self.transport.write_eof()
                self._resume_reading()
                self._expect_progress(request_limits.LINGER_S)
            return
        super()._close_transport()
        if self.transport.get_write_buffer_size():
            self._expect_progress()

    def _expect_progress(self, within: float | None = None) -> None:
        if self._answer_timer is None:
            self._answer_timer = self.worker.loop.call_later(
                within or request_limits.ANSWER_WITHIN_S, self.transport.abort
            )
