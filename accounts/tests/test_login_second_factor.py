"""``POST /api/auth/login`` of an account with a second factor."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts.models import Account
from accounts.second_factors import recovery_codes_renew
from devtools.browsing.authenticator import app_of, code

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def app(alice: Account) -> None:
    app_of(alice)


def log_in(password: str, **fields: Any) -> Response:
    body = {"email": "alice@example.org", "password": password, **fields}
    response: Response = APIClient().post("/api/auth/login", body)
    return response


def test_it_works(alice: Account, password: str) -> None:
    response = log_in(password, code=code())
    assert list(response.json()) == ["token"]
    client = APIClient(headers={"Authorization": f"Bearer {response.json()['token']}"})
    assert client.get("/api/account").status_code == 200
    alice.refresh_from_db()
    assert alice.last_login is not None


def test_a_recovery_code_does_too(alice: Account, password: str) -> None:
    recovery = recovery_codes_renew(account=alice)[0]
    assert log_in(password, code=recovery).status_code == 200
    assert log_in(password, code=recovery).json()["code"] == "second_factor_invalid"


@pytest.mark.parametrize("fields", [{}, {"code": ""}, {"code": None}])
def test_the_password_alone_does_not(alice: Account, password: str, fields: Any) -> None:
    response = log_in(password, **fields)
    assert (response.status_code, response.json()["code"]) == (401, "second_factor_required")
    assert response["WWW-Authenticate"] == "Bearer"
    alice.refresh_from_db()
    assert alice.last_login is None


def test_a_code_counts_once(password: str) -> None:
    shown = code()
    assert log_in(password, code=shown).status_code == 200
    response = log_in(password, code=shown)
    assert (response.status_code, response.json()["code"]) == (401, "second_factor_invalid")


def test_a_wrong_password_says_nothing_of_it() -> None:
    assert log_in("a guess").json()["code"] == "invalid_credentials"
    assert log_in("a guess", code=code()).json()["code"] == "invalid_credentials"


def test_guesses_are_limited_however_often_the_password_is_right(
    password: str, settings: Any
) -> None:
    settings.LOGIN_FAILURES_PER_EMAIL = 3
    refused = [log_in(password, code="000000").status_code for _ in range(4)]
    assert refused == [401, 401, 401, 429]
    assert log_in(password, code=code()).status_code == 429
    assert log_in(password).json()["code"] == "second_factor_required"  # which is no guess


def test_a_code_that_counts_clears_the_guesses(password: str, settings: Any) -> None:
    settings.LOGIN_FAILURES_PER_EMAIL = 2
    log_in(password, code="000000")
    assert log_in(password, code=code()).status_code == 200
    assert log_in(password, code="000000").status_code == 401


@pytest.mark.parametrize("wrong", [123456, "x" * 33, "1\0", ["1"]])
def test_a_wrong_field_is_named(password: str, wrong: Any) -> None:
    response = log_in(password, code=wrong)
    assert (response.status_code, list(response.json()["fields"])) == (400, ["code"])


def test_who_has_none_needs_no_code(bob: Account, password: str) -> None:
    body = {"email": bob.email, "password": password}
    for code_ in ({}, {"code": "123456"}):
        assert APIClient().post("/api/auth/login", body | code_).status_code == 200


def test_api_keys_need_none(alice_api: APIClient) -> None:
    assert alice_api.get("/api/account").status_code == 200
