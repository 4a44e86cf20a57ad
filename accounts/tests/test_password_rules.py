"""Which passwords are refused, at every door that takes one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from accounts.links import password_reset_link
from accounts.models import Account
from accounts.passwords import password_change

pytestmark = pytest.mark.django_db

EMAIL, COMPANY = "alice.smith@plumbing.example", "Alice & Daughters"
GOOD = "a long walk in the rain"

EMAIL_LIKE, COMPANY_LIKE = "too similar to your email", "too similar to your company"
ONE_CHARACTER = "only white space or a single repeated character"
REFUSED = [
    (EMAIL, EMAIL_LIKE),
    (EMAIL.upper(), EMAIL_LIKE),
    ("alice.smith", EMAIL_LIKE),
    ("AliceSmith1", EMAIL_LIKE),
    ("alice smith!", EMAIL_LIKE),
    ("plumbing.example", EMAIL_LIKE),
    (COMPANY, COMPANY_LIKE),
    ("alicedaughters", COMPANY_LIKE),
    ("Alice&Daughters7", COMPANY_LIKE),
    (" " * 8, ONE_CHARACTER),
    ("\u3000\u2003 \u00a0" * 3, ONE_CHARACTER),
    ("z" * 12, ONE_CHARACTER),
    ("zZ" * 6, ONE_CHARACTER),
    ("\u200b" * 8, ONE_CHARACTER),
]
TAKEN = [
    GOOD,
    "  spaces around it  ",
    "correct horse battery",
    "plumbers of the world",
    "Ω≈ç√∫µ≤≥",
]


def alice(**fields: Any) -> Account:
    return Account(email=EMAIL, company_name=COMPANY, **fields)


@pytest.mark.parametrize("password", TAKEN)
def test_it_takes_what_cannot_be_guessed(password: str) -> None:
    validate_password(password, alice())


@pytest.mark.parametrize(("password", "why"), REFUSED)
def test_it_refuses_what_can_be(password: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        validate_password(password, alice())


def test_without_a_company_there_is_nothing_to_be_like() -> None:
    validate_password("!" * 7 + "?", Account(email=EMAIL))


def test_long_ones_take_no_time() -> None:
    account = Account(email=f"{'ab' * 32}@{'ab' * 90}.example", company_name="ba" * 100)
    began = time.process_time()
    with pytest.raises(ValidationError):
        validate_password("ab" * 130, account)
    assert time.process_time() - began < 0.5


# Each door takes a password for somebody with that address and company, and returns what it says.
Door = Callable[[str], str]


def _api(password: str) -> str:
    body = {"email": EMAIL, "companyName": COMPANY, "password": password}
    answer = APIClient().post("/api/auth/register", body)
    if answer.status_code == 201:
        return ""
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    return str(answer.json()["fields"]["password"])


def _sign_up(password: str) -> str:
    body = {"email": EMAIL, "company_name": COMPANY, "password": password}
    return _said(Client().post("/signup", body))


def _settings(password: str) -> str:
    account = _known()
    browser = Client()
    browser.force_login(account)
    body = {"current_password": GOOD, "password": password}
    return _said(browser.post("/dashboard/settings/password", body))


def _reset(password: str) -> str:
    path = "/" + password_reset_link(_known()).split("/", 3)[3]
    return _said(Client().post(path, {"password": password}))


def _admin_add(password: str) -> str:
    body = {"email": EMAIL, "company_name": COMPANY, "status": "ACTIVE", "usable_password": "true"}
    both = {"password1": password, "password2": password}
    return _said(_operator().post(reverse("admin:accounts_account_add"), body | both))


def _admin_change(password: str) -> str:
    url = reverse("admin:auth_user_password_change", args=[_known().pk])
    body = {"usable_password": "true", "password1": password, "password2": password}
    return _said(_operator().post(url, body))


def _admin_own(password: str) -> str:
    account = _known(is_staff=True)
    browser = Client()
    browser.force_login(account)
    body = {"old_password": GOOD, "new_password1": password, "new_password2": password}
    return _said(browser.post(reverse("admin:password_change"), body))


def _known(**fields: Any) -> Account:
    known: dict[str, Any] = {"company_name": COMPANY, "email_verified_at": "2026-01-01T00:00Z"}
    return Account.objects.create_user(EMAIL, GOOD, **known | fields)


def _operator() -> Client:
    browser = Client()
    browser.force_login(Account.objects.create_superuser("olga@example.org", GOOD))
    return browser


def _said(response: Any) -> str:
    if response.status_code == 302:
        return ""
    text: str = response.content.decode().replace("&#x27;", "'")
    return text


DOORS: list[Door] = [
    *(_api, _sign_up, _settings, _reset),
    *(_admin_add, _admin_change, _admin_own),
]


@pytest.mark.parametrize("door", DOORS)
class TestDoors:
    def test_a_good_one_passes(self, door: Door) -> None:
        assert door("another long walk in the rain") == ""
        assert Account.objects.get(email=EMAIL).check_password("another long walk in the rain")

    @pytest.mark.parametrize(
        ("password", "why"),
        [(EMAIL, EMAIL_LIKE), ("alice.smith", EMAIL_LIKE), (COMPANY, COMPANY_LIKE)],
    )
    def test_one_like_the_account_is_refused(self, door: Door, password: str, why: str) -> None:
        assert why in door(password)
        assert not any(each.check_password(password) for each in Account.objects.all())

    @pytest.mark.parametrize("password", ["z" * 12, "  z  zzzzzz"])
    def test_one_character_is_refused_unless_there_is_another(
        self, door: Door, password: str
    ) -> None:
        assert (ONE_CHARACTER in door(password)) is (" " not in password)

    def test_eight_spaces_are_refused(self, door: Door) -> None:
        assert door(" " * 8) != ""
        assert not any(each.check_password(" " * 8) for each in Account.objects.all())


def test_a_superusers_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> None:
        call_command("createsuperuser", email=EMAIL, interactive=False, verbosity=0)

    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "alice.smith")
    with pytest.raises(CommandError, match=EMAIL_LIKE):
        make()
    assert not Account.objects.exists()
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", GOOD)
    make()
    assert Account.objects.get().is_superuser


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().upper()


class Breaches:
    """Stands in for a service that knows breached passwords, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.padded: list[str | None] = []
        self.known: dict[str, int] = {}
        self.status = 200

    def answer(self, prefix: str) -> str:
        digests = {sha1(each): count for each, count in self.known.items()}
        lines = [f"{each[5:]}:{n}" for each, n in digests.items() if each.startswith(prefix)]
        return "\r\n".join(["0" * 35 + ":3", *lines])


@pytest.fixture
def breaches(settings: Any) -> Iterator[Breaches]:
    service = Breaches()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.asked.append(self.path)
            service.padded.append(self.headers["Add-Padding"])
            body = service.answer(self.path.rpartition("/")[2]).encode()
            self.send_response(service.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        settings.PASSWORD_BREACH_CHECK_URL = f"http://127.0.0.1:{server.server_port}/range"
        yield service
        server.shutdown()


class TestBreaches:
    def test_a_breached_one_is_refused(self, breaches: Breaches) -> None:
        breaches.known = {GOOD: 17}
        assert "appeared in a data breach" in _api(GOOD)
        assert not Account.objects.exists()

    def test_another_one_passes(self, breaches: Breaches) -> None:
        breaches.known = {"another long walk": 17}
        assert _api(GOOD) == ""

    def test_the_service_learns_five_digits(self, breaches: Breaches) -> None:
        _api(GOOD)
        assert breaches.asked == [f"/range/{sha1(GOOD)[:5]}"]
        assert breaches.padded == ["true"]

    def test_what_only_pads_the_answer_is_not_breached(self, breaches: Breaches) -> None:
        breaches.known = {GOOD: 0}
        assert _api(GOOD) == ""

    @pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
    def test_a_service_that_fails_refuses_nobody(self, breaches: Breaches, status: int) -> None:
        breaches.known, breaches.status = {GOOD: 17}, status
        assert _api(GOOD) == ""
        assert breaches.asked

    def test_so_does_one_that_is_down(self, breaches: Breaches, settings: Any) -> None:
        settings.PASSWORD_BREACH_CHECK_URL = "http://127.0.0.1:1/range"
        assert _api(GOOD) == ""

    def test_nobody_is_asked_by_default(self, breaches: Breaches, settings: Any) -> None:
        settings.PASSWORD_BREACH_CHECK_URL = ""
        assert _api(GOOD) == ""
        assert breaches.asked == []


def test_one_that_is_too_long_to_hash(alice: Account) -> None:
    before = alice.password
    with pytest.raises(ValidationError) as refused:
        password_change(account=alice, password="long walk" * 112)
    assert refused.value.message_dict == {"password": ["Use at most 1000 characters."]}
    alice.refresh_from_db()
    assert alice.password == before
