"""Who asks during an outage, and a customer's backend that is asked."""

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


# Whoever waits without a limit waits for the end of the outage, which comes after the answers. A
# machine may be slow: how soon they come is measured by ``bin/chaos``.
ANSWERED_WITHIN_S = 15


def ask(
    url: str, *, headers: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None
) -> Answer:
    """Send a GET, or with a form a POST; raise :class:`TimeoutError` if no answer comes."""
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
    """Yield the URL of a customer's backend, which answers what the function returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/start"
        server.shutdown()
