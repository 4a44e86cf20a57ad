"""Proving again that it is still oneself, before what hurts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import Account
from accounts.services import api_key_create
from dashboard.tests.pages import assert_well_made
from devtools.browsing.authenticator import app_of, code

pytestmark = pytest.mark.django_db

NEW_KEY = "/dashboard/keys/new"
SETTINGS = "/dashboard/settings"
APP = f"{SETTINGS}/second-factor/app"

Later = Callable[..., None]


@pytest.fixture
def long_ago(alice_web: Client, later: Later) -> Client:
    """Alice's browser, a quarter of an hour after she has logged in."""
    later(minutes=15)
    return alice_web


def proof(password: str, **body: str) -> dict[str, str]:
    return {**body, "proof-password": password, "proof-instead-of": "POST"}


def is_asked(response: Any) -> bool:
    return "Confirm your identity</h1>" in response.content.decode()


def test_what_was_posted_is_done_after_it(alice: Account, long_ago: Client, password: str) -> None:
    asked = long_ago.post(NEW_KEY, {"label": "It's <b>new</b>"})
    assert (asked.status_code, is_asked(asked)) == (200, True)
    assert 'name="label" value="It&#x27;s &lt;b&gt;new&lt;/b&gt;"' in asked.content.decode()
    assert "no-store" in asked["Cache-Control"]
    assert_well_made(asked.content.decode())
    assert alice.api_keys.count() == 0
    done = long_ago.post(NEW_KEY, proof(password, label="It's <b>new</b>"), follow=True)
    assert "rtk_" in done.content.decode()
    assert alice.api_keys.get().label == "It's <b>new</b>"


def test_it_can_be_typed_at_once(long_ago: Client, password: str) -> None:
    for body in ({}, proof("wrong")):
        asked = long_ago.post(NEW_KEY, {"label": "CI", **body}).content.decode()
        (field,) = re.findall(r'<input[^>]* name="proof-password"[^>]*>', asked)
        assert " autofocus" in field


def test_a_page_is_shown_after_it(long_ago: Client, password: str) -> None:
    assert is_asked(long_ago.get(f"{APP}?next=/dashboard/keys"))
    sent = {"proof-password": password, "proof-instead-of": "GET"}
    response = long_ago.post(f"{APP}?next=/dashboard/keys", sent)
    assert response["Location"] == f"{APP}?next=/dashboard/keys"
    assert "totp-secret" in long_ago.get(response["Location"]).content.decode()


def test_a_quarter_of_an_hour_long(alice_web: Client, later: Later, password: str) -> None:
    assert not is_asked(alice_web.post(NEW_KEY))  # who has just logged in
    later(minutes=14, seconds=55)
    assert not is_asked(alice_web.post(NEW_KEY))
    later(seconds=10)
    assert is_asked(alice_web.post(NEW_KEY))
    alice_web.post(NEW_KEY, proof(password))
    later(minutes=14)
    assert not is_asked(alice_web.post(NEW_KEY))
    later(minutes=1)
    assert is_asked(alice_web.post(NEW_KEY))


def test_in_this_session_alone(alice: Account, long_ago: Client, password: str) -> None:
    elsewhere = Client()
    elsewhere.post("/login", {"email": alice.email, "password": password})
    assert not is_asked(elsewhere.post(NEW_KEY))
    assert is_asked(long_ago.post(NEW_KEY))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (NEW_KEY, {}),
        ("/dashboard/keys/{key}/revoke", {}),
        ("/dashboard/keys/secret", {}),
        ("/dashboard/keys/secret/rotate", {}),
        (f"{SETTINGS}/email", {"email": "mallory@example.org"}),
        (f"{SETTINGS}/delete", {"email": "alice@example.org"}),
        (APP, {"code": "123456"}),
        (f"{SETTINGS}/second-factor/passkey", {"name": "x"}),
        (f"{SETTINGS}/second-factor/codes", {}),
        (f"{SETTINGS}/second-factor/1/remove", {}),
    ],
)
def test_where_it_is_asked_for(
    alice: Account, long_ago: Client, path: str, body: dict[str, str]
) -> None:
    key = api_key_create(account=alice).api_key
    before = alice.webhook_secret.secret
    for sent in (body, proof("a guess", **body)):
        response = long_ago.post(path.format(key=key.id), sent)
        assert is_asked(response)
        assert before not in response.content.decode()
    alice.refresh_from_db()
    key.refresh_from_db()
    assert (alice.email, alice.is_active) == ("alice@example.org", True)
    assert (key.revoked_at, alice.api_keys.count()) == (None, 1)
    assert alice.webhook_secret.secret == before


def test_a_wrong_password_loses_nothing(long_ago: Client) -> None:
    response = long_ago.post(NEW_KEY, proof("a guess", label="Production"))
    assert response.status_code == 400
    assert "This password is wrong." in response.content.decode()
    assert 'name="label" value="Production"' in response.content.decode()
    assert "a guess" not in response.content.decode()
    assert_well_made(response.content.decode())


def test_guesses_are_limited(long_ago: Client, password: str, settings: Any) -> None:
    settings.LOGIN_FAILURES_PER_EMAIL = 2
    for _ in range(2):
        long_ago.post(NEW_KEY, proof("a guess"))
    response = long_ago.post(NEW_KEY, proof(password))
    assert "Too many attempts" in response.content.decode()
    assert "rtk_" not in response.content.decode()


def test_nothing_given(long_ago: Client) -> None:
    response = long_ago.post(NEW_KEY, proof(""))
    assert "This field is required." in response.content.decode()


def test_somebody_elses_password_does_not_count(
    bob: Account, long_ago: Client, alice: Account
) -> None:
    bob.set_password("another walk in the sun")
    bob.save()
    assert long_ago.post(NEW_KEY, proof("another walk in the sun")).status_code == 400


def test_a_form_of_another_site_is_refused(long_ago: Client, password: str) -> None:
    long_ago.handler.enforce_csrf_checks = True
    assert long_ago.post(NEW_KEY, proof(password)).status_code == 403


class TestSecondFactor:
    @pytest.fixture(autouse=True)
    def app(self, alice: Account, alice_web: Client) -> None:
        app_of(alice)
        alice_web.post("/login/second-factor", {"proof-code": code(later=-1)})

    def test_it_does_as_well(self, long_ago: Client) -> None:
        assert "your password or use your second factor" in long_ago.post(NEW_KEY).content.decode()
        sent = {"proof-code": code(), "proof-instead-of": "POST"}
        assert "rtk_" in long_ago.post(NEW_KEY, sent, follow=True).content.decode()

    def test_so_does_the_password(self, long_ago: Client, password: str) -> None:
        assert "rtk_" in long_ago.post(NEW_KEY, proof(password), follow=True).content.decode()

    def test_a_wrong_one_does_not(self, long_ago: Client) -> None:
        sent = {"proof-code": "000000", "proof-instead-of": "POST"}
        assert long_ago.post(NEW_KEY, sent).status_code == 400
