"""The settings page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Account
from dashboard.tests.conftest import logged_in
from dashboard.tests.mails import jobs, sent
from docs.tests.test_docs import Links
from telephony.models import Call

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/settings"
EMAIL, PASSWORD, COMPANY = f"{PAGE}/email", f"{PAGE}/password", f"{PAGE}/company"
UPDATE = "billing.tasks.update_customer"


def call_of(account: Account, number: int, **fields: Any) -> Call:
    return Call.objects.create(
        account=account,
        call_sid=f"CA{number:032x}",
        direction=Call.Direction.INBOUND,
        status=Call.Status.IN_PROGRESS,
        caller_phone="+19805551234",
        called_number="+15551234567",
        on_call_start_url="https://your-backend.com/calls/start",
        on_call_end_url="https://your-backend.com/calls/end",
        **fields,
    )


class TestPage:
    def test_it_works(self, alice: Account, bob: Account, alice_web: Client) -> None:
        call_of(alice, 1)
        call_of(alice, 2, ended_at=timezone.now())
        call_of(bob, 3)
        text = alice_web.get(PAGE).content.decode()
        assert "alice@example.org" in text
        assert "bob@example.org" not in text
        assert "1 of 50" in text
        assert "Alice&#x27;s Plumbing" in text

    def test_whoever_deletes_the_account_reads_that_its_numbers_rest(
        self, alice_web: Client
    ) -> None:
        text = alice_web.get(PAGE).content.decode()
        assert "For 30 days, nobody else can register a number that has received calls" in text

    def test_strangers_log_in(self) -> None:
        for path in (PAGE, f"{PAGE}/concurrency", EMAIL, PASSWORD, COMPANY, f"{PAGE}/delete"):
            assert Client().get(path)["Location"].startswith("/login?next=")
            assert Client().post(path)["Location"].startswith("/login?next=")

    def test_a_link_changes_nothing(self, alice_web: Client) -> None:
        for path in (EMAIL, PASSWORD, COMPANY, f"{PAGE}/delete"):
            assert alice_web.get(path).status_code == 405

    def test_it_keeps_to_the_policy(self, alice_web: Client) -> None:
        response = alice_web.get(PAGE)
        assert Links(response.content.decode()).inline == []
        assert "'unsafe" not in response["Content-Security-Policy"]
        assert "no-store" in response["Cache-Control"]

    def test_every_field_has_its_own_id(self, alice_web: Client) -> None:
        ids = re.findall(r' id="([^"]+)"', alice_web.get(PAGE).content.decode())
        assert len(ids) == len(set(ids))

    def test_it_costs_the_same_however_many_calls_there_were(
        self, alice: Account, alice_web: Client, django_assert_max_num_queries: Any
    ) -> None:
        for number in range(20):
            call_of(alice, number, ended_at=timezone.now())
        with django_assert_max_num_queries(5):
            alice_web.get(PAGE)

    def test_the_concurrency_alone(self, alice: Account, alice_web: Client) -> None:
        call_of(alice, 1)
        text = alice_web.get(f"{PAGE}/concurrency").content.decode()
        assert "1 of 50" in text
        assert "<html" not in text


class TestEmail:
    NEW = "Alice@Plumbing.example"

    def change(self, web: Client, email: str = NEW) -> Any:
        return web.post(EMAIL, {"email": email})

    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        assert self.change(alice_web)["Location"] == PAGE
        alice.refresh_from_db()
        assert (alice.email, alice.email_verified_at) == ("alice@plumbing.example", None)
        assert [(mail.subject, mail.to) for mail in sent()] == [
            ("Your email address was changed", ["alice@example.org"]),
            ("Confirm your email address", ["alice@plumbing.example"]),
        ]
        assert jobs(UPDATE) == [(UPDATE, {"account_id": alice.id})]
        assert "not confirmed" in alice_web.get(PAGE).content.decode()

    def test_the_notice_does_not_tell_the_new_address(self, alice_web: Client) -> None:
        self.change(alice_web)
        assert "plumbing.example" not in sent()[0].body

    def test_mails_are_limited(self, alice_web: Client, settings: Any) -> None:
        settings.MAILS_PER_EMAIL = 2
        for number in range(3):
            self.change(alice_web, f"victim{number}@example.com")
        to = {address for mail in sent() for address in mail.to if "victim" in address}
        assert "victim2@example.com" not in to

    def test_one_that_is_taken(self, alice: Account, bob: Account, alice_web: Client) -> None:
        response = self.change(alice_web, bob.email)
        assert response.status_code == 400
        text = response.content.decode()
        assert "An account with this email address already exists" in text
        assert "You sign in with <b>alice@example.org</b>" in text
        assert sent() == []

    @pytest.mark.parametrize("email", ["alice", "alice@example.org", ""])
    def test_what_is_wrong_is_said_at_the_field(self, alice_web: Client, email: str) -> None:
        response = self.change(alice_web, email)
        assert response.context["forms"]["email"].errors["email"]
        assert response.status_code == 400


class TestPassword:
    NEW = "another walk in the sun"

    def change(self, web: Client, old: str, new: str = NEW) -> Any:
        return web.post(PASSWORD, {"current_password": old, "password": new})

    def test_it_works(self, alice: Account, alice_web: Client, password: str) -> None:
        elsewhere = logged_in(alice)
        answer = APIClient().post("/api/auth/login", {"email": alice.email, "password": password})
        token = APIClient(headers={"Authorization": f"Bearer {answer.json()['token']}"})
        assert self.change(alice_web, password)["Location"] == PAGE
        alice.refresh_from_db()
        assert alice.check_password(self.NEW)
        assert alice_web.get(PAGE).status_code == 200
        assert elsewhere.get(PAGE).status_code == 302
        assert token.get("/api/account").status_code == 401
        assert [mail.subject for mail in sent()] == ["Your password was changed"]

    def test_the_old_one_is_asked_for(self, alice: Account, alice_web: Client) -> None:
        assert self.change(alice_web, "a guess").status_code == 400
        alice.refresh_from_db()
        assert not alice.check_password(self.NEW)

    def test_guesses_are_limited(self, alice_web: Client, password: str, settings: Any) -> None:
        settings.LOGIN_FAILURES_PER_EMAIL = 2
        for _ in range(2):
            self.change(alice_web, "a guess")
        assert "Too many attempts" in self.change(alice_web, password).content.decode()

    @pytest.mark.parametrize("new", ["short", "password123", ""])
    def test_the_new_one_is_checked(
        self, alice: Account, alice_web: Client, password: str, new: str
    ) -> None:
        response = self.change(alice_web, password, new)
        assert response.status_code == 400
        assert response.context["forms"]["password"].errors["password"]
        alice.refresh_from_db()
        assert alice.check_password(password)

    def test_no_password_comes_back_in_a_page(self, alice_web: Client) -> None:
        assert "canary-guess" not in self.change(alice_web, "canary-guess").content.decode()


class TestCompany:
    def test_it_works(self, alice: Account, alice_web: Client) -> None:
        assert alice_web.post(COMPANY, {"company_name": "Alice & Co"})["Location"] == PAGE
        alice.refresh_from_db()
        assert alice.company_name == "Alice & Co"
        assert jobs(UPDATE) == [(UPDATE, {"account_id": alice.id})]

    def test_it_may_be_left_out(self, alice: Account, alice_web: Client) -> None:
        alice_web.post(COMPANY, {"company_name": ""})
        alice.refresh_from_db()
        assert alice.company_name == ""

    def test_not_too_long(self, alice: Account, alice_web: Client) -> None:
        assert alice_web.post(COMPANY, {"company_name": "x" * 201}).status_code == 400
