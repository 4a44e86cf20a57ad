"""Signing up, logging in and out."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Account
from billing.tests.setting_up import set_up_stripe
from devtools.browsing.authenticator import code

pytestmark = pytest.mark.django_db

NEW = {
    "email": "Erin@example.org",
    "password": "a long walk in the rain",
    "company_name": "Erin's Eels",
}


class TestSignUp:
    PATH = "/signup"

    def test_it_works(self) -> None:
        set_up_stripe()
        client = Client()
        response = client.post(self.PATH, NEW)
        assert response.status_code == 302
        assert "/sandbox/payments/checkout/cs_test_" in response["Location"]
        account = Account.objects.get()
        assert (account.email, account.company_name) == ("erin@example.org", "Erin's Eels")
        assert (account.status, account.api_keys.count()) == ("INACTIVE", 0)
        assert client.session["_auth_user_id"] == account.id

    def test_a_stripe_that_is_down_loses_nobody(self) -> None:
        response = Client().post(self.PATH, NEW)
        assert response["Location"] == "/dashboard"
        assert Account.objects.exists()

    def test_the_form(self) -> None:
        response = Client().get(self.PATH)
        assert response.status_code == 200
        assert "no-store" in response["Cache-Control"]

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("email", "erin", "Enter a valid email address."),
            ("password", "short", "at least 8 characters"),
            ("password", "password", "too common"),
            ("company_name", "x" * 201, "at most 200 characters"),
        ],
    )
    def test_what_is_wrong_is_said_at_the_field(self, field: str, value: str, message: str) -> None:
        response = Client().post(self.PATH, NEW | {field: value})
        assert response.status_code == 400
        assert message in response.context["form"].errors[field][0]
        assert not Account.objects.exists()

    def test_an_address_that_is_taken(self, alice: Account) -> None:
        response = Client().post(self.PATH, NEW | {"email": "ALICE@example.org"})
        assert "An account with this email address already exists" in response.content.decode()

    def test_everything_that_is_wrong_is_said_at_once(self, alice: Account) -> None:
        form = {"email": alice.email, "password": "short", "company_name": "x" * 201}
        errors = Client().post(self.PATH, form).context["form"].errors
        assert set(errors) == {"email", "password", "company_name"}
        assert "already exists" in errors["email"][0]

    def test_a_weak_password_beside_an_invalid_address(self) -> None:
        form = {"email": "erin", "password": "password"}
        assert set(Client().post(self.PATH, form).context["form"].errors) == {"email", "password"}

    def test_invalid_forms_do_not_look_up_any_number_of_addresses(
        self, alice: Account, settings: Any
    ) -> None:
        settings.REGISTRATIONS_PER_ADDRESS = 2
        found = [
            Client().post(self.PATH, {"email": email, "password": "short"}).context["form"].errors
            for email in ("erin@example.org", alice.email, alice.email)
        ]
        assert ["email" in errors for errors in found] == [False, True, False]

    def test_attempts_are_limited(self, settings: Any) -> None:
        settings.REGISTRATIONS_PER_EMAIL = 1
        Client().post(self.PATH, NEW)
        response = Client().post(self.PATH, NEW)
        assert "Too many attempts" in response.content.decode()


class TestLogIn:
    PATH = "/login"

    def test_it_works(self, alice: Account, password: str) -> None:
        client = Client()
        response = client.post(self.PATH, {"email": "Alice@example.org", "password": password})
        assert (response.status_code, response["Location"]) == (302, "/dashboard")
        assert client.session["_auth_user_id"] == alice.id

    def test_the_login_is_noted_once(self, alice: Account, password: str) -> None:
        with CaptureQueriesContext(connection) as queries:
            Client().post(self.PATH, {"email": alice.email, "password": password})
        noted = [query for query in queries if '"last_login" =' in query["sql"]]
        assert len(noted) == 1
        alice.refresh_from_db()
        assert alice.last_login is not None

    def test_it_goes_on_where_one_wanted_to(self, alice: Account, password: str) -> None:
        form = {"email": alice.email, "password": password, "next": "/dashboard/calls?page=2"}
        assert Client().post(self.PATH, form)["Location"] == "/dashboard/calls?page=2"

    @pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "\\\\evil"])
    def test_never_to_another_site(self, alice: Account, password: str, elsewhere: str) -> None:
        form = {"email": alice.email, "password": password, "next": elsewhere}
        assert Client().post(self.PATH, form)["Location"] == "/dashboard"

    def test_a_wrong_password_and_an_unknown_address_look_the_same(
        self, alice: Account, password: str
    ) -> None:
        wrong = Client().post(self.PATH, {"email": alice.email, "password": "no such thing"})
        unknown = Client().post(self.PATH, {"email": "nobody@example.org", "password": password})
        assert wrong.status_code == unknown.status_code == 400
        errors = [page.context["form"].errors for page in (wrong, unknown)]
        assert errors[0] == errors[1] != {}

    def test_attempts_are_limited(self, alice: Account, password: str, settings: Any) -> None:
        settings.LOGIN_FAILURES_PER_EMAIL = 1
        Client().post(self.PATH, {"email": alice.email, "password": "no such thing"})
        response = Client().post(self.PATH, {"email": alice.email, "password": password})
        assert "Too many attempts" in response.content.decode()

    def test_a_form_of_another_site_is_refused(self, alice: Account, password: str) -> None:
        client = Client(enforce_csrf_checks=True)
        form = {"email": alice.email, "password": password}
        assert client.post(self.PATH, form).status_code == 403

    def test_operators_log_in_here_too(self, operator: Account, password: str) -> None:
        response = Client().get("/admin/", follow=True)
        assert response.redirect_chain[-1][0] == "/login?next=%2Fadmin%2F"
        form = {"email": operator.email, "password": password, "next": "/admin/"}
        client = Client()
        step = client.post(self.PATH, form)["Location"]
        assert step == "/login/second-factor?next=%2Fadmin%2F"
        assert client.post(step, {"proof-code": code()})["Location"] == "/admin/"
        assert client.get("/admin/").status_code == 200

    def test_a_customer_at_the_admin_is_told(self, alice_web: Client) -> None:
        response = alice_web.get("/admin/", follow=True)
        assert "You are signed in as alice@example.org" in response.content.decode()


class TestLogOut:
    def test_it_works(self, alice_web: Client) -> None:
        assert alice_web.post("/logout")["Location"] == "/"
        assert "_auth_user_id" not in alice_web.session

    def test_a_link_does_not(self, alice_web: Client) -> None:
        assert alice_web.get("/logout").status_code == 405
