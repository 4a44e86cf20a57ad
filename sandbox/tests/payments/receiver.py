"""An endpoint that receives events over HTTP."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

import stripe

from sandbox.payments import delivery
from sandbox.payments.models import Delivery


class Receiver:
    """Records what it receives. Responds with ``statuses`` first, then with 200."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, str]] = []
        self.statuses: list[int] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def register(self, *event_types: str) -> str:
        """Subscribe to these events; return the secret that signs them."""
        endpoint = stripe.WebhookEndpoint.create(
            url=self.url,
            enabled_events=list(event_types) or ["*"],  # type: ignore[arg-type]
        )
        return str(endpoint.secret)

    def events(self, secret: str) -> list[stripe.Event]:
        """Return the received events, verified by the SDK."""
        return [
            stripe.Webhook.construct_event(body, signature, secret)
            for body, signature in self.received
        ]

    def types(self, secret: str) -> list[str]:
        return [event.type for event in self.events(secret)]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((body, self.headers["Stripe-Signature"]))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


def deliver_due() -> None:
    """Run the jobs of all endpoints, one after the other."""
    for endpoint in set(Delivery.objects.values_list("endpoint", flat=True)):
        delivery.deliver_due(endpoint)
