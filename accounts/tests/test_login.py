from __future__ import annotations

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher, make_password

pytestmark = pytest.mark.django_db


class CountingHasher(MD5PasswordHasher):
    """A hasher that says how often it was at work."""

    runs = 0

    def encode(self, password, salt):
        CountingHasher.runs += 1
        return super().encode(password, salt)


def log_in(api, email, password):
    return api.post("/api/auth/login", {"email": email, "password": password})


def test_it_works(anonymous_api, alice, password):
    response = log_in(anonymous_api, "alice@example.org", password)
    assert response.status_code == 200
    assert list(response.json()) == ["token"]
    anonymous_api.credentials(HTTP_AUTHORIZATION=f"Bearer {response.json()['token']}")
    assert anonymous_api.get("/api/account").json()["account"]["id"] == alice.id


def test_the_address_counts_without_case(anonymous_api, alice, password):
    assert log_in(anonymous_api, "Alice@EXAMPLE.org", password).status_code == 200


def test_the_login_is_noted_for_operators(anonymous_api, alice, password):
    log_in(anonymous_api, alice.email, password)
    alice.refresh_from_db()
    assert alice.last_login is not None


@pytest.mark.parametrize("email", ["alice@example.org", "nobody@example.org"])
def test_wrong_credentials_answer_alike(anonymous_api, alice, email):
    response = log_in(anonymous_api, email, "a short walk")
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response.json()["code"] == "invalid_credentials"
    assert response.json()["error"] == ("The email address or password is wrong.")


def test_an_unknown_address_costs_as_much_work_as_a_known_one(anonymous_api, alice, settings):
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]
    runs = {}
    for email in (alice.email, "nobody@example.org"):
        CountingHasher.runs = 0
        log_in(anonymous_api, email, "a short walk")
        runs[email] = CountingHasher.runs
    assert runs == {alice.email: 1, "nobody@example.org": 1}


def test_an_outdated_hash_is_renewed(anonymous_api, alice, password, settings):
    preferred = settings.PASSWORD_HASHERS[0]
    outdated = "django.contrib.auth.hashers.PBKDF2PasswordHasher"
    settings.PASSWORD_HASHERS = [preferred, outdated]
    alice.password = make_password(password, hasher="pbkdf2_sha256")
    alice.save()
    token = log_in(anonymous_api, alice.email, password).json()["token"]
    alice.refresh_from_db()
    assert alice.password.startswith("md5$")
    anonymous_api.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert anonymous_api.get("/api/account").status_code == 200


@pytest.mark.parametrize("person", ["carol", "dave"])
def test_unpaid_and_suspended_accounts_log_in(anonymous_api, request, password, person):
    account = request.getfixturevalue(person)
    assert log_in(anonymous_api, account.email, password).status_code == 200


def test_a_disabled_account_does_not(anonymous_api, alice, password):
    alice.is_active = False
    alice.save()
    assert log_in(anonymous_api, alice.email, password).status_code == 401


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("alice", "a long walk", "email"),
        ("alice@example.org", "", "password"),
        ("alice@example.org", "nul\0", "password"),
        ("alice@example.org", "x" * 1001, "password"),
        ("alice\0@example.org", "a long walk", "email"),
    ],
)
def test_a_wrong_field_is_named(anonymous_api, email, password, field):
    response = log_in(anonymous_api, email, password)
    assert response.status_code == 400
    assert list(response.json()["fields"]) == [field]
