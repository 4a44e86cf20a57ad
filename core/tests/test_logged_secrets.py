"""Secrets stay out of the log, whatever fails around them.

Each link of ours with a token, and each other secret that the product makes: a new one has to be
added here, or a test fails.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlsplit

import pytest
import structlog
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from accounts.authentication import token_for
from accounts.links import password_reset_link, verification_link
from accounts.models import Account, new_api_key, new_webhook_secret
from core.ids import is_id
from core.paths import shown_path
from core.sealing import seal
from telephony import links
from telephony.engine.plan import CallPlan
from telephony.models import Call
from telephony.voice.handover import seal_plan

pytestmark = pytest.mark.django_db

CALL = "cmnp2a0c100037h3zv5j9e8ub"
LINKS: dict[str, Callable[[Account], str]] = {
    "email/confirm/<str:token>": verification_link,
    "password/reset/<str:id>/<str:token>": password_reset_link,
    "voice/answer/<str:token>": lambda account: links.outbound_url(CALL),
    "voice/status/<str:token>": lambda account: links.status_url(CALL),
    "voice/stream/<str:token>": lambda account: links.stream_status_url(CALL),
    "voice/after/<str:token>": lambda account: links.after_stream_url(CALL),
}


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route, entry
        else:
            yield from patterns(entry, route)


PATTERNS = dict(patterns(get_resolver()))


def test_each_link_with_a_token_is_tried_here() -> None:
    assert {route for route in PATTERNS if re.search("token|ticket|secret>", route)} == set(LINKS)


@pytest.fixture(params=LINKS)
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(route: str, alice: Account) -> str:
    return urlsplit(LINKS[route](alice)).path


@pytest.fixture
def is_hidden(path: str, logged: Callable[[], str]) -> Iterator[None]:
    """Whatever the test does is logged, without the token and without its signature."""
    yield
    text = logged()
    token = path.rpartition("/")[2]
    assert text
    for part in {token, quote(token, safe=""), *re.split(r"[.:-]", token, maxsplit=2)}:
        if len(part) >= 20 and not is_id(part):
            assert part[:-1] not in text


@pytest.mark.usefixtures("is_hidden")
class TestLinks:
    @pytest.fixture
    def browser(self, bob: Account) -> Client:
        client = Client(raise_request_exception=False, enforce_csrf_checks=True)
        client.force_login(bob)
        return client

    def test_a_wrong_method(self, browser: Client, path: str) -> None:
        browser.handler.enforce_csrf_checks = False
        assert browser.delete(path).status_code == 405

    def test_without_what_a_post_needs(self, browser: Client, path: str) -> None:
        assert browser.post(path).status_code in (400, 403)

    @pytest.mark.parametrize("behind", ["/", "/x", "x", "%20", ".", "=", "%7D", "&a=b"])
    def test_what_is_next_to_it(self, browser: Client, path: str, behind: str) -> None:
        assert browser.get(f"{path}{behind}").status_code in (404, 405)
        assert browser.get(f"/x{path}{behind}").status_code == 404
        assert browser.get(f"{path.upper()}{behind}").status_code == 404
        assert browser.get(f"{path[:-1]}").status_code in (404, 405)

    def test_what_no_request_may_hold(self, browser: Client, path: str) -> None:
        assert browser.get(f"{path}%00").status_code == 404
        assert browser.get(f"{path}?a=%00").status_code == 400
        assert browser.get(path, headers={"host": "nobody.example"}).status_code == 400

    def test_a_failure_of_its_view(
        self, browser: Client, path: str, route: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(request: HttpRequest, **parts: str) -> None:
            raise RuntimeError(f"{request.path} {parts}")

        monkeypatch.setattr(PATTERNS[route], "callback", fails)
        assert browser.get(path).status_code == 500

    @pytest.mark.parametrize(
        "line", ["GET {} HTTP/9", "Error handling request {}", "('{}',)", "{}"]
    )
    def test_what_the_server_says(self, path: str, line: str) -> None:
        for spelling in (path, quote(path), quote(path, safe=""), f"https://x.com{path}x?a=b"):
            logging.getLogger("gunicorn.error").warning(line.format(spelling))


def test_words_of_ours_and_ids_are_shown() -> None:
    for path in (f"/api/calls/{CALL}/hangup", "/dashboard/settings/email", "/voice", "/"):
        assert shown_path(path) == path
    assert shown_path("/wp-login.php/api") == "/\u2026/api"


class TestSecrets:
    """The second line: what has the shape of a secret is masked wherever it stands."""

    @pytest.fixture
    def secrets(self, alice: Account, client: Client) -> dict[str, str]:
        client.force_login(alice)
        plan = CallPlan("AC1", "t", "k", "p")
        call = Call.objects.create(
            account=alice, direction="inbound", status="ringing", on_call_start_url="https://a.b"
        )
        tokens = [link(alice).rpartition("/")[2] for link in LINKS.values()]
        return {
            **{token[:20]: token for token in tokens},
            "API key": new_api_key(),
            "webhook secret": new_webhook_secret(),
            "JWT": token_for(alice),
            "session": f"sessionid={client.session.session_key}",
            "CSRF": f"csrftoken={get_token(HttpRequest())}",
            "ticket": seal_plan(call, plan, timezone.now()),
            "sealed": seal(b"a", purpose="b").decode(),
            "hash": Argon2PasswordHasher().encode("a long walk", "somesalt"),
            "checkout": "https://checkout.stripe.com/c/pay/cs_live_a1b2c3d4e5f6g7h8i9j0#fidkdWxOYHw",
            "portal": "https://billing.stripe.com/p/session/live_YWNjdF8xTXJ2",
            "invoice": "https://invoice.stripe.com/i/acct_1/live_YWNjdF8xTXJ2?s=ap",
            "Slack": "https://hooks.slack.com/services/T0/B0/a1B2c3D4e5F6g7H8i9J0",
            "sandbox": "http://localhost/sandbox/payments/checkout/cs_test_a1b2c3d4e5f6g7h8i9j0",
        }

    @pytest.mark.parametrize("line", ["{}", "say {}, then", "{{'a': '{}'}}", "({}x)"])
    def test_each_is_masked(
        self, secrets: dict[str, str], logged: Callable[[], str], line: str
    ) -> None:
        for secret in secrets.values():
            structlog.get_logger("test").info(line.format(secret), what=[secret], a={"b": secret})
            try:
                raise ValueError(secret)
            except ValueError as error:
                logging.getLogger("test").warning("failed", exc_info=error)
        text = logged()
        assert [name for name, secret in secrets.items() if secret[-16:] in text] == []
