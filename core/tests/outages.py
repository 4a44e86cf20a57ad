"""A client for requests during an outage, and a customer's backend."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


# A request without a time limit would wait until the outage ends, which is after all responses. The
# value allows for a slow machine; ``bin/chaos`` measures how soon responses come.
ANSWERED_WITHIN_S = 15


def ask(
    url: str, *, headers: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
) -> Answer:
    """Send a GET, or with a form a POST; raise :class:`TimeoutError` without a response."""
    data = None if form is None else urlencode(form).encode()
    request = urllib.request.Request(url, data, dict(headers or {}))  # noqa: S310 (http, and ours)
    try:
        response = urllib.request.urlopen(request, timeout=ANSWERED_WITHIN_S)  # noqa: S310 (as above)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        text = response.read().decode()
        return Answer(response.status, response.headers, text)


@contextmanager
def backend(answer: Callable[[], Mapping[str, Any]]) -> Iterator[str]:
    """Yield the URL of a customer's backend that responds with what ``answer`` returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/start"
        server.shutdown()
