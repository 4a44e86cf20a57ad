"""A stand-in for Sentry: takes envelopes over HTTP, and keeps their events."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import sentry_sdk

from core.error_reports import ErrorReports, report_errors


class Sentry:
    def __init__(self) -> None:
        #: Whatever arrived: request lines, headers and bodies.
        self.raw = ""
        self.events: list[dict[str, Any]] = []
        self.may_answer = Event()
        self.may_answer.set()
        self.has_request = Event()

    def reported(self) -> list[dict[str, Any]]:
        """Return the events, once all that was reported has arrived."""
        sentry_sdk.flush(timeout=10)
        return self.events

    def take(self, envelope: bytes) -> None:
        _, *rest = envelope.split(b"\n")
        for header, body in zip(rest[::2], rest[1::2], strict=False):
            assert json.loads(header)["type"] == "event"
            self.events.append(json.loads(body))


@contextmanager
def reporting_to_sentry() -> Iterator[Sentry]:
    """Have this process report to a stand-in, whose reports are those of this block."""
    sentry = Sentry()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            sentry.raw += f"{self.requestline}\n{self.headers}\n{body.decode()}\n"
            sentry.has_request.set()
            sentry.may_answer.wait(30)
            sentry.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        root = logging.getLogger()
        try:
            report_errors(f"http://public@127.0.0.1:{server.server_port}/1")
            yield sentry
        finally:
            sentry.may_answer.set()
            for handler in [each for each in root.handlers if isinstance(each, ErrorReports)]:
                root.removeHandler(handler)
            sentry_sdk.get_client().close(timeout=5)
            sentry_sdk.get_global_scope().set_client(None)
            server.shutdown()
            thread.join()
