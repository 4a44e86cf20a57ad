"""The second factor on the pages: after the password, and in the settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client

from accounts.audit import AuditEvent
from accounts.models import Account
from accounts.second_factors import (
    code_require,
    has_second_factor,
    recovery_codes_left,
    recovery_codes_renew,
    second_factors,
    second_factors_remove_all,
)
from dashboard.tests.mails import sent
from dashboard.tests.pages import assert_well_made
from devtools.browsing.authenticator import app_of, code

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/settings/second-factor"
APP, PASSKEY, CODES = f"{PAGE}/app", f"{PAGE}/passkey", f"{PAGE}/codes"
STEP = "/login/second-factor"
SECRET = re.compile(r'id="totp-secret">([A-Z2-7 ]+)<')
RECOVERY_CODE = re.compile(r"\b(\d{4} \d{4})\b")


def give_password(account: Account, password: str, **fields: str) -> tuple[Client, Any]:
    client = Client()
    return client, client.post("/login", {"email": account.email, "password": password, **fields})


def secret_of(web: Client) -> str:
    found = SECRET.search(web.get(APP).content.decode())
    assert found
    return found[1].replace(" ", "")


class TestLogIn:
    @pytest.fixture(autouse=True)
    def app(self, alice: Account) -> None:
        app_of(alice)

    def test_it_works(self, alice: Account, password: str) -> None:
        web, response = give_password(alice, password, next="/dashboard/calls")
        assert response["Location"] == f"{STEP}?next=%2Fdashboard%2Fcalls"
        asked = web.get(response["Location"])
        assert "Code from your authenticator app" in asked.content.decode()
        assert "no-store" in asked["Cache-Control"]
        assert_well_made(asked.content.decode())
        response = web.post(STEP, {"proof-code": code(), "next": "/dashboard/calls"})
        assert response["Location"] == "/dashboard/calls"
        assert web.get("/dashboard/calls").status_code == 200

    def test_the_password_alone_opens_nothing(self, alice: Account, password: str) -> None:
        web, _ = give_password(alice, password)
        for path in ("/dashboard", "/dashboard/keys", PAGE):
            assert web.get(path)["Location"].startswith("/login?next=")
        alice.refresh_from_db()
        assert alice.last_login is None

    def test_who_planted_the_browsers_session_has_given_no_password(
        self, alice: Account, password: str
    ) -> None:
        mallory, victim = Client(), Client()
        session = mallory.session  # one of Mallory's own
        session["planted"] = True
        session.save()
        victim.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
        mallory.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
        victim.post("/login", {"email": alice.email, "password": password})
        assert mallory.post(STEP, {"proof-code": code()})["Location"].startswith("/login?next=")
        assert victim.post(STEP, {"proof-code": code()})["Location"] == "/dashboard"

    def test_a_recovery_code_does_too(self, alice: Account, password: str) -> None:
        recovery = recovery_codes_renew(account=alice)[0]
        for expected in (302, 400):
            web, _ = give_password(alice, password)
            assert web.post(STEP, {"proof-code": recovery}).status_code == expected
        assert recovery_codes_left(alice) == 9

    def test_a_code_counts_once(self, alice: Account, password: str) -> None:
        shown = code()
        for expected in (302, 400):
            web, _ = give_password(alice, password)
            assert web.post(STEP, {"proof-code": shown}).status_code == expected

    @pytest.mark.parametrize("tried", ["000000", ""])
    def test_a_wrong_code_is_refused(self, alice: Account, password: str, tried: str) -> None:
        web, _ = give_password(alice, password)
        response = web.post(STEP, {"proof-code": tried})
        assert response.status_code == 400
        assert response.context["form"].errors["code"]
        assert_well_made(response.content.decode())
        assert web.get("/dashboard").status_code == 302

    def test_the_password_does_not_count_in_its_place(self, alice: Account, password: str) -> None:
        web, _ = give_password(alice, password)
        assert web.post(STEP, {"proof-password": password}).status_code == 400

    def test_guesses_are_limited(self, alice: Account, password: str, settings: Any) -> None:
        settings.LOGIN_FAILURES_PER_EMAIL = 2
        for _ in range(2):
            web, _ = give_password(alice, password)
            web.post(STEP, {"proof-code": "000000"})
        response = web.post(STEP, {"proof-code": code()})
        assert "Too many attempts" in response.content.decode()
        assert web.get("/dashboard").status_code == 302

    def test_it_is_asked_for_within_minutes(
        self, alice: Account, password: str, later: Callable[..., None]
    ) -> None:
        web, _ = give_password(alice, password)
        later(minutes=11)
        assert web.post(STEP, {"proof-code": code()})["Location"].startswith("/login?")

    def test_a_changed_password_is_asked_for_again(self, alice: Account, password: str) -> None:
        web, _ = give_password(alice, password)
        alice.set_password("another walk in the sun")
        alice.save()
        assert web.post(STEP, {"proof-code": code()})["Location"].startswith("/login?")

    def test_nobody_gets_there_without_the_password(self, alice: Account, bob: Account) -> None:
        assert Client().get(STEP)["Location"].startswith("/login?")
        bobs = Client()
        bobs.force_login(bob)
        assert bobs.post(STEP, {"proof-code": code()})["Location"].startswith("/login?")

    def test_it_goes_on_here_alone(self, alice: Account, password: str) -> None:
        web, response = give_password(alice, password, next="https://evil.example/")
        assert response["Location"] == f"{STEP}?next=%2Fdashboard"
        sent_ = {"proof-code": code(), "next": "//evil.example"}
        assert web.post(STEP, sent_)["Location"] == "/dashboard"

    def test_a_form_of_another_site_is_refused(self, alice: Account, password: str) -> None:
        web, _ = give_password(alice, password)
        web.handler.enforce_csrf_checks = True
        assert web.post(STEP, {"proof-code": code()}).status_code == 403


class TestApp:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        text = alice_web.get(APP).content.decode()
        assert "<svg" in text
        assert_well_made(text)
        response = alice_web.post(APP, {"code": code(secret_of(alice_web))}, follow=True)
        codes = RECOVERY_CODE.findall(response.content.decode())
        assert len(codes) == 10
        assert "no-store" in response["Cache-Control"]
        assert_well_made(response.content.decode())
        assert "Authenticator app" in alice_web.get(PAGE).content.decode()
        code_require(alice, codes[0])

    def test_the_codes_are_shown_this_once(self, alice_web: Client) -> None:
        response = alice_web.post(APP, {"code": code(secret_of(alice_web))}, follow=True)
        shown = RECOVERY_CODE.findall(response.content.decode())[0]
        assert response.redirect_chain == [(CODES, 302)]
        for path in (PAGE, APP, CODES):
            assert shown not in alice_web.get(path, follow=True).content.decode()
        assert shown.replace(" ", "") not in str(dict(alice_web.session.items()))

    def test_a_wrong_code_keeps_the_secret(self, alice: Account, alice_web: Client) -> None:
        secret = secret_of(alice_web)
        response = alice_web.post(APP, {"code": "000000"})
        assert response.status_code == 400
        assert "This code is wrong or expired" in response.content.decode()
        assert secret_of(alice_web) == secret
        assert not has_second_factor(alice)

    def test_guesses_are_limited(self, alice: Account, alice_web: Client, settings: Any) -> None:
        settings.LOGIN_FAILURES_PER_EMAIL = 2
        secret = secret_of(alice_web)
        for _ in range(2):
            alice_web.post(APP, {"code": "000000"})
        response = alice_web.post(APP, {"code": code(secret)})
        assert "Too many attempts" in response.content.decode()

    def test_the_secret_is_not_stored_in_the_clear(self, alice_web: Client) -> None:
        secret = secret_of(alice_web)
        for session in Session.objects.all():
            assert secret not in str(session.get_decoded())

    def test_there_is_one(self, alice: Account, alice_web: Client) -> None:
        app_of(alice)
        alice_web.force_login(alice)
        step_up(alice_web)
        assert alice_web.get(APP)["Location"] == PAGE

    def test_strangers_log_in(self) -> None:
        for path in (PAGE, APP, PASSKEY, CODES, f"{PAGE}/1/remove"):
            assert Client().get(path)["Location"].startswith("/login?next=")
            assert Client().post(path)["Location"].startswith("/login?next=")


def step_up(web: Client) -> None:
    """Show the second factor in a session that began before there was one."""
    assert web.post(STEP, {"proof-code": code()})["Location"] == "/dashboard"


@pytest.fixture
def alice_with_app(alice: Account, alice_web: Client) -> Client:
    app_of(alice)
    step_up(alice_web)
    return alice_web


class TestList:
    def test_it_works(self, alice: Account, alice_with_app: Client) -> None:
        text = alice_with_app.get(PAGE).content.decode()
        assert "Authenticator app" in text
        assert "0 of 10" in text
        assert_well_made(text)
        assert "Manage second factors" in alice_with_app.get("/dashboard/settings").content.decode()

    def test_none(self, bob_web: Client) -> None:
        assert "No second factor" in bob_web.get(PAGE).content.decode()
        assert "Add a second factor" in bob_web.get("/dashboard/settings").content.decode()

    def test_there_are_no_passkeys_at_an_ip_address(self, bob_web: Client, settings: Any) -> None:
        settings.PUBLIC_URL = "http://127.0.0.1:8000"
        assert "Passkeys are not available here" in bob_web.get(PAGE).content.decode()
        assert bob_web.get(PASSKEY)["Location"] == PAGE


class TestRecoveryCodes:
    def test_they_are_renewed(self, alice: Account, alice_with_app: Client) -> None:
        response = alice_with_app.post(CODES, follow=True)
        codes = RECOVERY_CODE.findall(response.content.decode())
        assert len(codes) == 10
        code_require(alice, codes[9])
        assert "9 of 10" in alice_with_app.get(PAGE).content.decode()

    def test_reloading_the_page_keeps_them(self, alice: Account, alice_with_app: Client) -> None:
        response = alice_with_app.post(CODES, follow=True)
        code_ = RECOVERY_CODE.findall(response.content.decode())[0]
        assert alice_with_app.get(CODES)["Location"] == PAGE
        code_require(alice, code_)

    def test_a_link_makes_none(self, alice: Account, alice_with_app: Client) -> None:
        assert alice_with_app.get(CODES)["Location"] == PAGE
        assert recovery_codes_left(alice) == 0

    def test_not_without_a_second_factor(self, bob_web: Client) -> None:
        assert bob_web.post(CODES)["Location"] == PAGE
        assert "Add a second factor before" in bob_web.get(PAGE).content.decode()


class TestRemove:
    def path(self, account: Account) -> str:
        return f"{PAGE}/{second_factors(account)[0].pk}/remove"

    def test_it_works(self, alice: Account, alice_with_app: Client) -> None:
        assert alice_with_app.post(self.path(alice))["Location"] == PAGE
        assert not has_second_factor(alice)
        assert "No second factor" in alice_with_app.get(PAGE).content.decode()

    def test_somebody_elses_is_not_found(
        self, alice: Account, alice_with_app: Client, bob_web: Client
    ) -> None:
        assert bob_web.post(self.path(alice)).status_code == 404
        assert has_second_factor(alice)

    def test_an_operator_is_told(self, operator: Account) -> None:
        web = Client()
        web.force_login(operator)
        web.post(self.path(operator))
        assert "Add another one before" in web.get(PAGE).content.decode()
        assert has_second_factor(operator)

    def test_a_link_does_not(self, alice: Account, alice_with_app: Client) -> None:
        assert alice_with_app.get(self.path(alice)).status_code == 405


class TestASessionThatIsOlder:
    """It has shown the password alone, which somebody may have stolen."""

    @pytest.fixture(autouse=True)
    def app(self, alice: Account, alice_web: Client) -> None:
        app_of(alice)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            (APP, {}),
            (CODES, {}),
            (f"{PAGE}/1/remove", {}),
            ("/dashboard/keys/new", {"label": "x"}),
            ("/dashboard/keys/secret", {}),
            ("/dashboard/settings/email", {"email": "mallory@example.org"}),
            ("/dashboard/settings/delete", {"email": "alice@example.org"}),
        ],
    )
    def test_the_password_does_not_suffice(
        self, alice: Account, alice_web: Client, password: str, path: str, body: Any
    ) -> None:
        asked = alice_web.post(path, body)
        assert "Use your second factor to continue" in asked.content.decode()
        proof = {"proof-password": password, "proof-instead-of": "POST"}
        assert alice_web.post(path, body | proof).status_code == 400
        alice.refresh_from_db()
        assert (alice.email, alice.is_active) == ("alice@example.org", True)
        assert (alice.api_keys.count(), second_factors(alice).count()) == (0, 1)

    def test_nor_for_a_new_password(self, alice: Account, alice_web: Client, password: str) -> None:
        body = {"current_password": password, "password": "another walk in the sun"}
        response = alice_web.post("/dashboard/settings/password", body)
        assert response["Location"].startswith(STEP)
        alice.refresh_from_db()
        assert alice.check_password(password)

    def test_the_second_factor_does(self, alice_web: Client) -> None:
        proof = {"proof-code": code(), "proof-instead-of": "POST"}
        response = alice_web.post("/dashboard/keys/new", {"label": "x"} | proof, follow=True)
        assert "rtk_" in response.content.decode()


def test_the_owner_is_told(alice: Account, alice_web: Client, operator: Account) -> None:
    response = alice_web.post(APP, {"code": code(secret_of(alice_web))}, follow=True)
    code_require(alice, RECOVERY_CODE.findall(response.content.decode())[0])
    alice_web.post(CODES)
    alice_web.post(f"{PAGE}/{second_factors(alice)[0].pk}/remove")
    app_of(alice)
    second_factors_remove_all(account=alice)
    said = [mail.body for mail in sent() if mail.subject == "Your second factor was changed"]
    assert len(said) == 5
    for words in ("app was added", "code was used", "New recovery", "app was removed", "Support"):
        assert sum(words in str(body) for body in said) == 1


def test_the_audit_log_has_it(alice: Account, alice_web: Client) -> None:
    response = alice_web.post(APP, {"code": code(secret_of(alice_web))}, follow=True)
    code_require(alice, RECOVERY_CODE.findall(response.content.decode())[0])
    alice_web.post(CODES)
    alice_web.post(f"{PAGE}/{second_factors(alice)[0].pk}/remove")
    app_of(alice)
    second_factors_remove_all(account=alice)
    log = AuditEvent.objects.of(alice).order_by("created_at", "id")
    factors = log.filter(action__regex="second_factor|recovery_codes")
    assert list(factors.values_list("action", flat=True)) == [
        "second_factor.added",
        "recovery_codes.used",
        "recovery_codes.created",
        "second_factor.removed",
        "second_factor.removed",
    ]
    assert factors[0].actor_kind == "customer"
