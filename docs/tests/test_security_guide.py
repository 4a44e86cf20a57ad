"""The security guide's table of what an attacker can do: each line has its tests."""

from __future__ import annotations

import gc
import re
from importlib import import_module
from inspect import getsource
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts.authentication import token_for
from accounts.models import Account, ApiKey
from docs.guides import FOLDER
from sandbox.tests.customer import AUTH_TOKEN
from telephony.engine.plan import CallPlan
from telephony.tests.wire.conftest import *  # noqa: F403  # a world with a phone and a model
from telephony.tests.wire.test_secrets import dump

FORGED = "telephony.tests.wire.test_forgeries"
HERE = "docs.tests.test_security_guide"
# The tests of each line of the table.
TESTS = {
    "nothing but a customer's number": [
        f"{FORGED}.TestForgedRings",
        f"{FORGED}.TestAnothersRepetition",
        f"{FORGED}.TestTheAccountOfANumber",
        "telephony.tests.wire.test_refusals.TestTheSignature",
    ],
    "a customer's API key": [f"{HERE}.TestAnApiKey", "accounts.tests.test_ownership"],
    "a customer's password": [
        "dashboard.tests.test_second_factor.TestLogIn",
        "accounts.tests.test_login_second_factor",
    ],
    "a signed link of a call": [
        f"{FORGED}.TestTheRecordFollowsTheSocket",
        "telephony.tests.wire.test_refusals.TestOurOwnLinks",
    ],
    "a call's TwiML": [
        "telephony.tests.wire.test_refusals.TestTheTicket",
        "telephony.tests.voice.test_handover",
        "telephony.tests.wire.test_moving",
    ],
    "a customer's Twilio auth token": [
        f"{FORGED}.TestTheRecordFollowsTheSocket",
        f"{FORGED}.TestTheAccountOfANumber",
    ],
    "a number that another customer removed": [
        f"{FORGED}.TestWhatCostsTheOwnerOfANumber",
        "telephony.tests.test_phone_numbers_api.TestAReleasedNumber",
    ],
    "read access to the database": [
        f"{HERE}.TestTheDatabase",
        "telephony.tests.wire.test_secrets",
        "telephony.tests.test_greetings",
        "dashboard.tests.test_stored_sessions",
    ],
    "a backup": [f"{HERE}.TestABackup"],
    "a log": ["core.tests.test_logs", "telephony.tests.wire.test_secrets"],
    "your collector of traces, or Sentry": [
        "operations.tests.test_traces",
        "core.tests.test_error_reports",
    ],
    "an engine's memory": [f"{HERE}.test_an_engine_forgets_the_credentials_of_ended_calls"],
    "SECRET_KEY": [f"{HERE}.TestTheSecretKey"],
}


def lines() -> list[str]:
    """Return the first column of the guide's table."""
    text = (FOLDER / "security.md").read_text(encoding="utf-8")
    table = text.partition("| an attacker with |")[2].partition("\n\n")[0]
    return [row.split("|")[1].strip().strip("`") for row in table.splitlines()[2:]]


def test_each_line_has_tests() -> None:
    assert lines() == list(TESTS)


@pytest.mark.parametrize("name", sorted({name for names in TESTS.values() for name in names}))
def test_the_tests_are_there(name: str) -> None:
    parts = name.split(".")
    at = next(n for n, part in enumerate(parts) if part.startswith("test_") and n) + 1
    found: Any = import_module(".".join(parts[:at]))
    for part in parts[at:]:
        found = getattr(found, part)
    assert "def test_" in getsource(found)


@pytest.mark.django_db
class TestAnApiKey:
    def test_what_it_can_do(self, alice_api: APIClient) -> None:
        for path in ("calls", "phone-numbers", "usage", "webhooks/secret", "deliveries"):
            assert alice_api.get(f"/api/{path}").status_code == 200

    def test_it_makes_keys_that_outlive_it(self, alice: Account, alice_api: APIClient) -> None:
        made = alice_api.post("/api/api-keys", {"label": "another"}).json()
        (first,) = ApiKey.objects.of(alice).exclude(pk=made["id"])
        alice_api.delete(f"/api/api-keys/{first.pk}")
        assert alice_api.get("/api/account").status_code == 401
        other = APIClient(HTTP_AUTHORIZATION=f"Bearer {made['key']}")
        assert other.get("/api/account").status_code == 200

    def test_it_places_no_call_by_itself(self, alice_api: APIClient) -> None:
        response = alice_api.post("/api/outbound", {})
        missing = set(response.json()["fields"])
        assert {"twilioAccountSid", "twilioAuthToken"} <= missing

    def test_it_lets_calls_of_any_twilio_account_in(
        self, alice: Account, alice_api: APIClient
    ) -> None:
        urls = dict.fromkeys(("onCallStartUrl", "onCallEndUrl"), "https://evil.example/")
        number = alice_api.post("/api/phone-numbers", {"phoneNumber": "+15551234567", **urls})
        id, other = number.json()["phoneNumber"]["id"], "AC" + "e" * 32
        changed = alice_api.patch(f"/api/phone-numbers/{id}", {"twilioAccountSid": other})
        assert changed.json()["phoneNumber"]["twilioAccountSid"] == other
        assert alice_api.post("/api/api-keys", {}).status_code == 201

    def test_it_opens_no_page(self, alice_api: APIClient) -> None:
        for page in ("/dashboard", "/dashboard/settings", "/admin/"):
            assert alice_api.get(page).status_code == 302

    def test_no_endpoint_changes_who_gets_in(self, anonymous_api: APIClient) -> None:
        schema = anonymous_api.get("/api/schema?format=json").json()
        takes_password = {
            path
            for path, operations in schema["paths"].items()
            if re.search("password|secondFactor|recovery", str(operations), re.IGNORECASE)
            and path not in ("/api/auth/register", "/api/auth/login")
        }
        deletes_account = "delete" in schema["paths"]["/api/account"]
        assert not deletes_account
        assert all("requestBody" not in str(schema["paths"][path]) for path in takes_password)


@pytest.mark.django_db
class TestTheDatabase:
    def test_it_has_no_key_password_or_secret(
        self, alice: Account, password: str, client: Client
    ) -> None:
        api = APIClient()
        response = api.post(
            "/api/auth/register", {"email": "erin@example.org", "password": "a canary that sings"}
        )
        key = response.json()["apiKey"]
        api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        secret = api.get("/api/webhooks/secret").json()["secret"]
        client.force_login(alice)
        whole = dump()
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        for canary in (key, "a canary that sings", secret, secret[6:], cookie):
            assert canary not in whole
            assert canary.encode().hex() not in whole

    def test_what_it_has_opens_nothing(self, alice: Account, alice_api: APIClient) -> None:
        (digest,) = ApiKey.objects.of(alice).values_list("digest", flat=True)
        web = Client()
        web.force_login(alice)
        (session,) = Session.objects.values_list("session_key", flat=True)
        thief = APIClient(HTTP_AUTHORIZATION=f"Bearer {digest}")
        assert thief.get("/api/account").status_code == 401
        other = Client()
        other.cookies[settings.SESSION_COOKIE_NAME] = session
        assert other.get("/dashboard").status_code == 302


@pytest.mark.django_db
class TestABackup:
    def test_what_is_sealed_for_calls_is_in_none(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT relname FROM pg_class WHERE relpersistence = 'u'")
            unlogged = {name for (name,) in cursor.fetchall()}
        sealed = {
            "telephony_sealedplan",
            "telephony_sealedconversation",
            "telephony_cachedgreeting",
        }
        assert sealed | {"accounts_attemptcount"} <= unlogged


async def test_an_engine_forgets_the_credentials_of_ended_calls(world, model):
    async with model():
        ringing = await world.greeted()
        assert held_plans()
        await world.hang_up(ringing)
    gc.collect()
    assert not held_plans()


def held_plans() -> list[CallPlan]:
    plans = [each for each in gc.get_objects() if type(each) is CallPlan]
    return [plan for plan in plans if plan.twilio_auth_token == AUTH_TOKEN]


@pytest.mark.django_db
class TestTheSecretKey:
    def test_a_token_takes_the_password_hash_as_well(self, alice: Account) -> None:
        before = token_for(alice)
        alice.password = "what somebody without the database would have to guess"
        forged = token_for(alice)
        assert forged != before
        thief = APIClient(HTTP_AUTHORIZATION=f"Bearer {forged}")
        assert thief.get("/api/account").status_code == 401

    def test_a_session_takes_the_cookie(self, alice: Account) -> None:
        web = Client()
        web.force_login(alice)
        (session,) = Session.objects.all()
        assert alice.pk in str(session.get_decoded())  # it can be read with the key
        thief = Client()
        thief.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
        assert thief.get("/dashboard").status_code == 302
