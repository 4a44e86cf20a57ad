from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts.models import Account, ApiKey

pytestmark = pytest.mark.django_db

EMAIL = "you@company.example"
VALID = {"email": EMAIL, "password": "a long walk in the rain", "companyName": "Your Company"}


def register(api: APIClient, **changes):
    return api.post("/api/auth/register", VALID | changes)


def test_it_works(anonymous_api, settings):
    response = register(anonymous_api)
    assert response.status_code == 201
    body = response.json()
    account = Account.objects.get(email=EMAIL)
    assert body["account"] == {
        "id": account.id,
        "email": EMAIL,
        "companyName": "Your Company",
        "status": "INACTIVE",
    }
    assert body["checkoutUrl"] is None
    assert body["engineVoiceUrl"] == f"{settings.ENGINE_URL}/voice"
    assert set(body) == {"account", "apiKey", "token", "checkoutUrl", "engineVoiceUrl"}
    assert account.webhook_secret.secret.startswith("whsec_")


@pytest.mark.parametrize("credential", ["apiKey", "token"])
def test_key_and_token_open_the_api(anonymous_api, credential):
    body = register(anonymous_api).json()
    anonymous_api.credentials(HTTP_AUTHORIZATION=f"Bearer {body[credential]}")
    assert anonymous_api.get("/api/account").json()["account"]["email"] == EMAIL


def test_the_first_key_is_the_default_one(anonymous_api):
    key = register(anonymous_api).json()["apiKey"]
    record = ApiKey.objects.get()
    assert record.label == "Default"
    assert record.prefix == key[:7]
    assert key not in str(ApiKey.objects.values())


@pytest.mark.parametrize("omitted", [{"companyName": None}, {"companyName": "  "}])
def test_the_company_is_optional(anonymous_api, omitted):
    assert register(anonymous_api, **omitted).json()["account"]["companyName"] is None


def test_credentials_that_came_along_do_not_matter(anonymous_api):
    anonymous_api.credentials(HTTP_AUTHORIZATION="Bearer rtk_old")
    assert register(anonymous_api).status_code == 201


def test_the_address_counts_without_case(anonymous_api):
    response = register(anonymous_api, email=" You@Company.Example ")
    assert response.json()["account"]["email"] == EMAIL


def test_an_address_registers_once(anonymous_api):
    register(anonymous_api)
    response = register(anonymous_api, email=EMAIL.upper())
    assert response.status_code == 409
    assert response.json()["code"] == "email_taken"
    assert Account.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "you"}, "email"),
        ({"email": ""}, "email"),
        ({"email": None}, "email"),
        ({"email": ["you@company.example"]}, "email"),
        ({"email": f"{'y' * 250}@company.example"}, "email"),
        ({"email": "you\0@company.example"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "password123"}, "password"),
        ({"password": 1234567890}, "password"),
        ({"password": {"a": 1}}, "password"),
        ({"password": "x" * 1001}, "password"),
        ({"password": "with a \0 inside"}, "password"),
        ({"companyName": 7}, "companyName"),
        ({"companyName": "x" * 201}, "companyName"),
        ({"companyName": "Nul\0"}, "companyName"),
    ],
)
def test_a_wrong_field_is_named(anonymous_api, changes, field):
    response = register(anonymous_api, **changes)
    assert response.status_code == 400
    assert list(response.json()["fields"]) == [field]
    assert not Account.objects.exists()


def test_missing_fields_are_named_together(anonymous_api):
    response = anonymous_api.post("/api/auth/register", {})
    assert set(response.json()["fields"]) == {"email", "password"}


def test_a_password_keeps_its_spaces(anonymous_api):
    register(anonymous_api, password="  a long walk  ")
    assert Account.objects.get().check_password("  a long walk  ")


@pytest.mark.django_db(transaction=True)
def test_a_race_has_one_winner():
    start = Barrier(2, timeout=10)

    def attempt(_):
        try:
            start.wait()
            return register(APIClient()).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, range(2))) == [201, 409]
    assert ApiKey.objects.count() == 1
