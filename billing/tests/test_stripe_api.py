"""How Stripe is asked, and what its failures become, against a server that speaks HTTP."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest
import stripe
from django.db import connection
from djstripe.models import APIKey, Customer

from billing import stripe_api
from billing.stripe_api import PaymentsUnavailable, asking, is_missing


class Server(ThreadingHTTPServer):
    """Answers every request alike, and keeps what it was sent."""

    daemon_threads = True
    status = 200
    body: dict[str, Any] = {"id": "switchhook", "object": "product", "name": "Switchhook"}

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.may_answer = Event()
        self.may_answer.set()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.may_answer.wait(5)
        body = json.dumps(self.server.body).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Request-Id", "req_1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Stripe's API is this server, asked by the SDK as in production."""
    for name in ("api_key", "api_version", "max_network_retries", "default_http_client"):
        monkeypatch.setattr(stripe, name, getattr(stripe, name))
    monkeypatch.setattr(stripe_api, "_TIMEOUT", (1, 0.5))
    monkeypatch.setattr(stripe_api, "_RETRIES", 0)
    stripe_api.configure()
    with Server() as server:
        monkeypatch.setattr(stripe, "api_base", f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.may_answer.set()
        server.shutdown()


def ask() -> stripe.Product:
    with asking():
        return stripe.Product.retrieve("switchhook")


def test_it_works(server: Server, settings: Any) -> None:
    assert ask().name == "Switchhook"
    [(path, headers)] = server.requests
    assert path == "/v1/products/switchhook"
    assert headers["Stripe-Version"] == settings.STRIPE_API_VERSION
    assert headers["Authorization"] == f"Bearer {settings.STRIPE_SECRET_KEY}"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_whatever_may_pass_is_unavailable(server: Server, status: int) -> None:
    server.status, server.body = status, {"error": {"message": "No.", "type": "api_error"}}
    with pytest.raises(PaymentsUnavailable) as refusal:
        ask()
    assert (refusal.value.status_code, refusal.value.code) == (502, "payments_unavailable")


def test_a_stripe_that_hangs_is_unavailable(server: Server) -> None:
    server.may_answer.clear()
    with pytest.raises(PaymentsUnavailable):
        ask()


def test_a_stripe_that_is_not_there_is_unavailable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(stripe, "api_base", f"http://127.0.0.1:{port}")
    with pytest.raises(PaymentsUnavailable):
        ask()


def test_our_own_mistakes_are_ours(server: Server) -> None:
    server.status = 404
    server.body = {"error": {"code": "resource_missing", "type": "invalid_request_error"}}
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        ask()
    assert is_missing(refusal.value)


def test_the_key_is_in_no_log(
    server: Server, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even among what the SDK tells whoever debugs it."""
    caplog.set_level(logging.DEBUG, logger="stripe")
    ask()
    server.status, server.body = 401, {"error": {"message": "Invalid API Key provided"}}
    with pytest.raises(PaymentsUnavailable):
        ask()
    assert "Request to Stripe api" in caplog.text
    assert "stripe_unavailable" in caplog.text
    assert "req_1" in caplog.text
    assert settings.STRIPE_SECRET_KEY not in caplog.text


@pytest.mark.django_db
def test_the_key_is_not_in_the_database(server: Server) -> None:
    server.body = {"id": "cus_1", "object": "customer", "livemode": False, "metadata": {}}
    Customer.sync_from_stripe_data(stripe.Customer.retrieve("cus_1"))
    assert Customer.objects.get().id == "cus_1"
    assert not APIKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_meanwhile(server: Server) -> None:
    connection.ensure_connection()
    with asking():
        assert connection.connection is None


@pytest.mark.django_db
def test_a_transaction_keeps_its_connection(server: Server) -> None:
    with asking():
        assert connection.connection is not None
