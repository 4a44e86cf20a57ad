"""A forgotten password."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.links import password_reset_link
from accounts.models import Account
from accounts.services import account_note_login
from dashboard.tests.mails import jobs, path_in, sent
from docs.tests.test_docs import Links

pytestmark = pytest.mark.django_db

ASK = "/password/reset"
NEW = {"password": "another walk in the sun"}


def ask(email: str, **extra: Any) -> Any:
    return Client().post(ASK, {"email": email}, **extra)


def link_to(account: Account) -> str:
    ask(account.email)
    [mail] = sent()
    return path_in(mail)


def can_log_in(account: Account, password: str) -> bool:
    account.refresh_from_db()
    return account.check_password(password)


def test_it_works(alice: Account) -> None:
    response = ask(" Alice@Example.org ")
    assert (response.status_code, "Check your email" in response.content.decode()) == (200, True)
    [mail] = sent()
    assert (mail.subject, mail.to) == ("Reset your password", ["alice@example.org"])
    web = Client()
    assert web.get(path_in(mail)).status_code == 200
    response = web.post(path_in(mail), NEW)
    assert response["Location"] == "/login"
    assert "Password changed" in web.get("/login").content.decode()
    assert can_log_in(alice, NEW["password"])
    assert [mail.subject for mail in sent()] == ["Your password was changed"]


class TestAsking:
    def test_an_unknown_address_looks_the_same(self, alice: Account) -> None:
        pages = {}
        for email in (alice.email, "nobody@example.org"):
            response = ask(email)
            pages[email] = (response.status_code, response.content.decode().replace(email, ""))
            assert len(jobs("accounts.tasks.send_password_reset")) == 1
        assert pages[alice.email] == pages["nobody@example.org"]

    def test_it_does_the_same_work(
        self, alice: Account, django_assert_num_queries: Any, client: Client
    ) -> None:
        client.post(ASK, {"email": "somebody@example.org"})
        for email in (alice.email, "nobody@example.org"):
            with django_assert_num_queries(3):  # two counts and a job
                client.post(ASK, {"email": email})

    def test_nobody_is_written_to_who_has_no_account(self, alice: Account) -> None:
        ask("nobody@example.org")
        assert sent() == []

    def test_nor_who_is_disabled(self, alice: Account) -> None:
        Account.objects.update(is_active=False)
        ask(alice.email)
        assert sent() == []

    def test_an_unconfirmed_address_gets_no_link(self, alice: Account) -> None:
        Account.objects.update(email_verified_at=None)
        ask(alice.email)
        [mail] = sent()
        assert mail.subject == "Your password reset request"
        assert "/password/reset/" not in mail.body

    def test_no_job_holds_the_address_or_the_link(self, alice: Account) -> None:
        ask(alice.email)
        [(_, arguments)] = jobs("accounts.tasks.send_password_reset")
        assert "alice" not in str(arguments)

    @pytest.mark.parametrize("email", ["alice@example.org", "nobody@example.org"])
    def test_it_is_limited_for_an_address(self, alice: Account, settings: Any, email: str) -> None:
        settings.MAILS_PER_EMAIL = 2
        answers = [ask(email, REMOTE_ADDR=f"192.0.2.{number}") for number in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 400]
        assert "Too many attempts" in answers[-1].content.decode()

    def test_it_is_limited_for_a_network_address(self, settings: Any) -> None:
        settings.MAILS_PER_ADDRESS = 2
        answers = [ask(f"{number}@example.org").status_code for number in range(3)]
        assert answers == [200, 200, 400]
        assert ask("4@example.org", REMOTE_ADDR="192.0.2.1").status_code == 200

    def test_what_is_wrong_is_said_at_the_field(self) -> None:
        response = ask("alice")
        assert response.status_code == 400
        assert response.context["form"].errors["email"]

    def test_without_a_mail_server_the_page_says_whom_to_ask(
        self, alice: Account, settings: Any
    ) -> None:
        settings.SENDS_MAIL = False
        for response in (Client().get(ASK), ask(alice.email)):
            assert "Contact support" in response.content.decode()
        assert jobs("accounts.tasks.send_password_reset") == []

    def test_the_login_leads_here(self) -> None:
        assert f'href="{ASK}"' in Client().get("/login").content.decode()


class TestTheLink:
    def test_it_holds_once(self, alice: Account) -> None:
        link = link_to(alice)
        Client().post(link, NEW)
        for response in (Client().get(link), Client().post(link, {"password": "a third walk"})):
            assert response.status_code == 404
            assert "no longer valid" in response.content.decode()
        assert can_log_in(alice, NEW["password"])

    def test_not_after_the_password_was_changed(self, alice: Account) -> None:
        link = link_to(alice)
        alice.set_password("changed in the settings")
        alice.save()
        assert Client().post(link, NEW).status_code == 404
        assert can_log_in(alice, "changed in the settings")

    def test_not_after_a_login(self, alice: Account, password: str) -> None:
        link = link_to(alice)
        account_note_login(account=alice)
        assert Client().get(link).status_code == 404

    def test_not_after_another_address(self, alice: Account) -> None:
        link = link_to(alice)
        Account.objects.filter(pk=alice.pk).update(email="alice@example.com")
        assert Client().get(link).status_code == 404

    def test_not_of_another_account(self, alice: Account, bob: Account, password: str) -> None:
        *_, token = link_to(alice).split("/")
        assert Client().post(f"{ASK}/{bob.id}/{token}", NEW).status_code == 404
        assert can_log_in(bob, password)

    def test_not_after_an_hour(self, alice: Account, settings: Any) -> None:
        link = link_to(alice)
        settings.PASSWORD_RESET_TIMEOUT = -1
        assert Client().get(link).status_code == 404

    def test_not_of_an_address_that_is_not_confirmed(self, alice: Account) -> None:
        Account.objects.update(email_verified_at=None)
        link = "/" + password_reset_link(alice).split("/", 3)[3]
        assert Client().post(link, NEW).status_code == 404

    @pytest.mark.parametrize("id", ["cnobody", "x", "c" * 25])
    def test_not_of_nobody(self, alice: Account, id: str) -> None:
        assert Client().get(f"{ASK}/{id}/abc-def").status_code == 404

    @pytest.mark.parametrize("bad", ["short", "password123", ""])
    def test_the_password_is_checked(self, alice: Account, password: str, bad: str) -> None:
        link = link_to(alice)
        response = Client().post(link, {"password": bad})
        assert response.status_code == 400
        assert response.context["form"].errors["password"]
        assert can_log_in(alice, password)
        assert Client().post(link, NEW).status_code == 302

    def test_sessions_and_tokens_end(
        self, alice: Account, alice_web: Client, alice_api: APIClient, password: str
    ) -> None:
        answer = APIClient().post("/api/auth/login", {"email": alice.email, "password": password})
        token = APIClient(headers={"Authorization": f"Bearer {answer.json()['token']}"})
        assert token.get("/api/account").status_code == 200
        Client().post(link_to(alice), NEW)
        assert alice_web.get("/dashboard/settings")["Location"].startswith("/login")
        assert token.get("/api/account").json()["code"] == "password_changed"
        assert alice_api.get("/api/account").status_code == 200  # its key stays


def test_the_pages_keep_to_the_policy(alice: Account) -> None:
    for response in (Client().get(ASK), ask("a@example.org"), Client().get(link_to(alice))):
        assert Links(response.content.decode()).inline == []
        assert "'unsafe" not in response["Content-Security-Policy"]
        assert "no-store" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "same-origin"
