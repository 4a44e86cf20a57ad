"""The HTTP protocol of an engine: gunicorn's, with limits on slow and abusive clients."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol

from core import request_limits


class TooMuch(Exception):
    """A request that exceeds a limit, with the status and the reason of the response."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class BoundedProtocol(ASGIProtocol):
    """Gunicorn's protocol, with the limits of ``core.request_limits``.

    Gunicorn's own waits for a request without a time limit, buffers everything that arrives, and
    passes each of a million chunks to the application. This one needs ``worker.waiting``: the
    protocols that wait for their client, longest wait first.
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
        self._response_timer: asyncio.TimerHandle | None = None
        self._bytes = self._pieces = 0
        self._has_begun = False
        self._ignores_input = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_request()
        self.resume_writing()
        task = self._task
        if self._awaiting_request and not self._finishing_calls:
            self._request_ready.set()  # the task ends now; gunicorn would keep it for 3 seconds
            self._task = None
        super().connection_lost(exc)
        task.add_done_callback(self._forget)

    def _forget(self, _: asyncio.Task[None]) -> None:
        """Drop the references that lead back to this object.

        A reference cycle stays until a full garbage collection, which pauses every call: for 0.3 s
        after a thousand connections.
        """
        self._task = self._callback_parser = self._current_request = self._body_receiver = None

    def data_received(self, data: bytes) -> None:
        self._has_begun = True
        if not self._ignores_input:
            super().data_received(data)

    # Receive a request

    def _begin_request(self) -> None:
        self._bytes = self._pieces = 0
        if self._request_timer is None:
            within = request_limits.REQUEST_WITHIN_S
            self._request_timer = self.worker.loop.call_later(within, self._time_out)
        self._wait_for_client()

    def _end_request(self) -> None:
        self.worker.waiting.pop(self, None)
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _time_out(self) -> None:
        if self._has_begun:
            self._refuse(408, "The request took too long to arrive.")
        else:  # a client that sent nothing would take an error for its first response
            self._close_transport()

    def _on_headers_complete(self) -> bool:
        super()._on_headers_complete()
        self._begin_request()
        request = self._current_request
        if request.content_length <= request_limits.most_body(request.path):
            return False
        # The application responds that the body is too large, and receives none of it.
        request.must_close = self._ignores_input = True
        return True

    def _is_websocket_upgrade(self, request: Any) -> bool:
        return False  # handled like any other request: media streams have their own port

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
        self._ignores_input = True
        self._send_error_response(status, f"{reason}\n")
        self._close_transport()
        self._request_ready.set()  # wakes gunicorn's task, which then ends

    def _send_error_response(self, *args: Any, **kwargs: Any) -> None:
        if (error := sys.exception()) is not None:
            # Gunicorn responds while it handles the error. Some of its parser's frames refer to the
            # error itself and to the parser, which makes a reference cycle.
            error.__traceback__ = None
        super()._send_error_response(*args, **kwargs)

    # Limit the waiting connections: the oldest is closed first

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

    # Send the response

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._response_timer is not None:
            self._response_timer.cancel()
            self._response_timer = None

    def _close_transport(self) -> None:
        if self._ignores_input and not self._closed:
            # Closing while the client still sends would reset it before it reads the response.
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
        if self._response_timer is None:
            self._response_timer = self.worker.loop.call_later(
                within or request_limits.ANSWER_WITHIN_S, self.transport.abort
            )
