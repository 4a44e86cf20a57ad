"""Passkeys, with one that is made here; ``test_passkeys_in_chromium`` has a browser's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import Account
from accounts.second_factors import MAX_PASSKEYS, second_factors
from dashboard.tests.pages import assert_well_made
from dashboard.tests.passkeys import Passkey, options_in

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/settings/second-factor"
ADD = f"{PAGE}/passkey"
STEP = "/login/second-factor"
NEW_KEY = "/dashboard/keys/new"
CODES = "/dashboard/settings/second-factor/codes"


@pytest.fixture(autouse=True)
def public_url(settings: Any) -> None:
    settings.PUBLIC_URL = "https://switchhook.example"


@pytest.fixture
def passkey(alice_web: Client) -> Passkey:
    """Alice's passkey."""
    passkey = Passkey()
    assert add(alice_web, passkey)["Location"] == CODES
    return passkey


def add(web: Client, passkey: Passkey, name: str = "Laptop", **lie: Any) -> Any:
    options = options_in(web.get(ADD).content.decode())
    return web.post(ADD, {"name": name, "credential": passkey.made(options, **lie)})


def half_logged_in(account: Account, password: str) -> tuple[Client, dict[str, Any]]:
    """Return a browser whose next step is the second factor, and what it is asked."""
    web = Client()
    web.post("/login", {"email": account.email, "password": password})
    return web, options_in(web.get(STEP).content.decode())


class TestAdding:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        asked = alice_web.get(ADD).content.decode()
        assert options_in(asked)["rp"]["id"] == "switchhook.example"
        assert_well_made(asked)
        assert add(alice_web, Passkey())["Location"] == CODES
        assert "Your recovery codes" in alice_web.get(CODES).content.decode()
        [factor] = second_factors(alice)
        assert (factor.type, str(factor)) == ("webauthn", "Laptop")
        text = alice_web.get(PAGE).content.decode()
        assert "Passkey “Laptop”" in text
        assert_well_made(text)

    def test_another_one_keeps_the_recovery_codes(
        self, alice: Account, alice_web: Client, passkey: Passkey
    ) -> None:
        assert add(alice_web, Passkey(), "Phone")["Location"] == PAGE
        assert [str(each) for each in second_factors(alice)] == ["Laptop", "Phone"]

    def test_the_browser_is_told_which_there_are(self, alice_web: Client, passkey: Passkey) -> None:
        options = options_in(alice_web.get(ADD).content.decode())
        assert len(options["excludeCredentials"]) == 1

    def test_a_challenge_counts_once(self, alice: Account, alice_web: Client) -> None:
        options = options_in(alice_web.get(ADD).content.decode())
        made = Passkey().made(options)
        assert alice_web.post(ADD, {"name": "x", "credential": made}).status_code == 302
        assert alice_web.post(ADD, {"name": "x", "credential": made}).status_code == 400
        assert second_factors(alice).count() == 1

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "http://switchhook.example", "https://example"]
    )
    def test_not_on_another_site(self, alice: Account, alice_web: Client, origin: str) -> None:
        response = add(alice_web, Passkey(), origin=origin)
        assert response.status_code == 400
        assert "could not be verified" in response.content.decode()
        assert not second_factors(alice).exists()

    def test_not_of_another_site(self, alice: Account, alice_web: Client) -> None:
        assert add(alice_web, Passkey("evil.example")).status_code == 400
        assert not second_factors(alice).exists()

    @pytest.mark.parametrize("name", ["", "x" * 51])
    def test_it_has_a_name(self, alice: Account, alice_web: Client, name: str) -> None:
        response = add(alice_web, Passkey(), name)
        assert response.context["form"].errors["name"]
        assert not second_factors(alice).exists()

    def test_there_is_a_limit(self, alice: Account, alice_web: Client, passkey: Passkey) -> None:
        for _ in range(MAX_PASSKEYS):
            response = add(alice_web, Passkey())
        assert "Remove one first" in response.content.decode()
        assert second_factors(alice).count() == MAX_PASSKEYS


class TestLogIn:
    def test_it_works(self, alice: Account, passkey: Passkey, password: str) -> None:
        web, options = half_logged_in(alice, password)
        assert len(options["allowCredentials"]) == 1
        sent = {"proof-credential": passkey.answer(options)}
        assert web.post(STEP, sent)["Location"] == "/dashboard"
        assert web.get("/dashboard").status_code == 200
        assert second_factors(alice)[0].last_used_at is not None

    def test_an_answer_counts_once(self, alice: Account, passkey: Passkey, password: str) -> None:
        web, options = half_logged_in(alice, password)
        sent = {"proof-credential": passkey.answer(options)}
        assert web.post(STEP, sent).status_code == 302
        elsewhere, _ = half_logged_in(alice, password)
        assert elsewhere.post(STEP, sent).status_code == 400

    @pytest.mark.parametrize(
        "lie",
        [
            {"origin": "https://evil.example"},
            {"signature": "MEUCIQ"},
            {"authenticatorData": "eA"},
            {"clientDataJSON": "eA"},
        ],
    )
    def test_a_lie_is_refused(
        self, alice: Account, passkey: Passkey, password: str, lie: dict[str, str]
    ) -> None:
        web, options = half_logged_in(alice, password)
        response = web.post(STEP, {"proof-credential": passkey.answer(options, **lie)})
        assert response.status_code == 400
        assert "This passkey was not accepted" in response.content.decode()
        assert web.get("/dashboard").status_code == 302

    def test_another_passkey_is_refused(
        self, alice: Account, bob_web: Client, passkey: Passkey, password: str
    ) -> None:
        bobs = Passkey()
        add(bob_web, bobs)
        web, options = half_logged_in(alice, password)
        assert web.post(STEP, {"proof-credential": bobs.answer(options)}).status_code == 400
        bobs.id = passkey.id  # a forgery: not its signature
        assert web.post(STEP, {"proof-credential": bobs.answer(options)}).status_code == 400

    @pytest.mark.parametrize(
        "made_up",
        [
            *("null", "[]", "{}", '"x"', "1", "{", "[" * 9_000, "x" * 20_000, '{"id": 1}'),
            json.dumps({"id": "eA", "rawId": "eA", "type": "public-key", "response": {}}),
            json.dumps({"id": "eA", "rawId": "eA", "type": "public-key", "response": None}),
            json.dumps({"id": "eA", "rawId": 5, "type": "public-key", "response": []}),
        ],
        ids=range(12),
    )
    def test_what_is_none_is_refused(
        self, alice: Account, alice_web: Client, passkey: Passkey, password: str, made_up: str
    ) -> None:
        web, _ = half_logged_in(alice, password)
        response = web.post(STEP, {"proof-credential": made_up})
        assert response.status_code == 400
        assert 'class="notice bad' in response.content.decode()
        assert alice_web.post(ADD, {"name": "x", "credential": made_up}).status_code == 400

    def test_guesses_are_limited(
        self, alice: Account, passkey: Passkey, password: str, settings: Any
    ) -> None:
        settings.LOGIN_FAILURES_PER_EMAIL = 2
        web, options = half_logged_in(alice, password)
        for _ in range(2):
            web.post(STEP, {"proof-credential": "{}"})
        response = web.post(STEP, {"proof-credential": passkey.answer(options)})
        assert "Too many attempts" in response.content.decode()


class TestSudo:
    def test_it_works(
        self, alice_web: Client, passkey: Passkey, later: Callable[..., None]
    ) -> None:
        later(minutes=16)
        options = options_in(alice_web.post(NEW_KEY, {"label": "x"}).content.decode())
        sent = {"proof-credential": passkey.answer(options), "proof-instead-of": "POST"}
        shown = alice_web.post(NEW_KEY, {"label": "x"} | sent, follow=True)
        assert "rtk_" in shown.content.decode()

    def test_the_challenge_of_a_new_passkey_is_none(
        self, alice: Account, alice_web: Client, passkey: Passkey, later: Callable[..., None]
    ) -> None:
        options = options_in(alice_web.get(ADD).content.decode())
        later(minutes=16)
        sent = {"proof-credential": passkey.made(options), "proof-instead-of": "POST"}
        assert alice_web.post(NEW_KEY, sent).status_code == 400
        assert alice.api_keys.count() == 0
