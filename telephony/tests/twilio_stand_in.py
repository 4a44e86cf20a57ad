"""Twilio's REST API on a socket, with responses that a test sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs

ACCOUNT_SID = "AC" + "0123456789abcdef" * 2
AUTH_TOKEN = "feedfacecafebeef" * 2
CALL_SID = "CA" + "fedcba9876543210" * 2


@dataclass(frozen=True)
class Received:
    """A request as Twilio received it: every form field with the list of its values."""

    path: str
    authorization: str
    form: dict[str, list[str]]


@dataclass
class Twilio:
    """The requests, and the response, which follows after ``acts``, and may never complete.

    A ``body`` that is a function is called for each response.
    """

    status: int = 201
    body: Any = field(default_factory=lambda: call_resource())
    acts: Callable[[Received], None] = lambda received: None
    drips: bool = False
    received: list[Received] = field(default_factory=list)
    url: str = ""
    stopped: Event = field(default_factory=Event)

    def refuses(self, status: int, code: int, message: str) -> None:
        more_info = f"https://www.twilio.com/docs/errors/{code}"
        self.status = status
        self.body = {"code": code, "message": message, "more_info": more_info, "status": status}


def call_resource(**changes: Any) -> dict[str, Any]:
    """Return Twilio's response for a call that it has accepted."""
    return {
        "sid": CALL_SID,
        "account_sid": ACCOUNT_SID,
        "api_version": "2010-04-01",
        "to": "+15559876543",
        "from": "+15551234567",
        "status": "queued",
        "direction": "outbound-api",
        "date_created": None,
        "start_time": None,
        "end_time": None,
        "duration": None,
        "price": None,
        "price_unit": "USD",
        "answered_by": None,
        "uri": f"/2010-04-01/Accounts/{ACCOUNT_SID}/Calls/{CALL_SID}.json",
    } | changes


@contextmanager
def running_twilio() -> Iterator[Twilio]:
    twilio = Twilio()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            received = Received(
                path=self.path,
                authorization=self.headers["Authorization"],
                form=parse_qs(self.rfile.read(length).decode(), keep_blank_values=True),
            )
            twilio.received.append(received)
            twilio.acts(received)
            self.send_response(twilio.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            while twilio.drips and not twilio.stopped.wait(0.05):
                self.wfile.write(b" ")
            body = twilio.body() if callable(twilio.body) else twilio.body
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    twilio.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield twilio
    finally:
        twilio.stopped.set()
        server.shutdown()
        server.server_close()
