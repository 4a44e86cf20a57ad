"""Signing out everywhere: sessions and tokens end, on every device; API keys go on."""

from __future__ import annotations

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.authentication import token_for
from accounts.models import Account
from accounts.services import account_sign_out_everywhere

pytestmark = pytest.mark.django_db

PATH = "/dashboard/settings/sign-out-everywhere"
SETTINGS = "/dashboard/settings"


def logged_in(account: Account) -> Client:
    browser = Client()
    browser.force_login(account)
    return browser


def asking_with(token: str) -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {token}")


def test_it_ends_every_session(alice: Account) -> None:
    here, elsewhere = logged_in(alice), logged_in(alice)
    response = here.post(PATH, follow=True)
    assert "You are signed out everywhere." in response.content.decode()
    for browser in (here, elsewhere):
        assert browser.get(SETTINGS)["Location"].startswith("/login")


def test_it_ends_every_token(alice: Account) -> None:
    before = asking_with(token_for(alice))
    assert before.get("/api/account").status_code == 200
    logged_in(alice).post(PATH)
    refused = before.get("/api/account")
    assert (refused.status_code, refused.json()["code"]) == (401, "signed_out")
    alice.refresh_from_db()
    assert asking_with(token_for(alice)).get("/api/account").status_code == 200


def test_api_keys_go_on(alice: Account, alice_api: APIClient) -> None:
    logged_in(alice).post(PATH)
    assert alice_api.get("/api/account").status_code == 200


def test_somebody_elses_go_on(alice: Account, bob: Account) -> None:
    bobs, token = logged_in(bob), asking_with(token_for(bob))
    logged_in(alice).post(PATH)
    assert bobs.get(SETTINGS).status_code == 200
    assert token.get("/api/account").status_code == 200


def test_a_changed_password_ends_them_afterwards_too(alice: Account, password: str) -> None:
    account_sign_out_everywhere(account=alice)
    here, elsewhere, token = logged_in(alice), logged_in(alice), asking_with(token_for(alice))
    body = {"current_password": password, "password": "another long walk in the rain"}
    here.post("/dashboard/settings/password", body)
    assert here.get(SETTINGS).status_code == 200
    assert elsewhere.get(SETTINGS).status_code == 302
    assert token.get("/api/account").json()["code"] == "password_changed"


def test_nobody_is_signed_out_by_this_being_new(alice: Account) -> None:
    """Sessions and tokens from before there was an epoch hold: the hash is Django's still."""
    django_hash = super(Account, alice)._get_session_auth_hash()  # type: ignore[misc]
    assert alice.get_session_auth_hash() == django_hash


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_rotated_secret_key_signs_nobody_out(alice: Account, settings, epochs: int) -> None:
    for _ in range(epochs):
        account_sign_out_everywhere(account=alice)
    browser = logged_in(alice)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-" + "y" * 50
    assert browser.get(SETTINGS).status_code == 200


def test_it_is_not_done_by_looking(alice: Account) -> None:
    browser = logged_in(alice)
    assert browser.get(PATH).status_code == 405
    assert browser.get(SETTINGS).status_code == 200


def test_operators_do_not_do_it_in_the_place_of_a_customer(
    alice: Account, operator: Account
) -> None:
    olga, alices = logged_in(operator), logged_in(alice)
    olga.post(f"/operators/impersonate/{alice.pk}")
    assert olga.post(PATH).status_code == 403
    assert alices.get(SETTINGS).status_code == 200
