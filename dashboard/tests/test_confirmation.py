"""Confirming an email address."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.links import VERIFICATION_VALID, verification_link
from accounts.mails import mail_queue
from accounts.models import Account
from dashboard.tests.conftest import logged_in
from dashboard.tests.mails import jobs, path_in, sent
from docs.tests.test_docs import Links

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/settings"
SEND = "/email/confirm"
UPDATE = "billing.tasks.update_customer"


@pytest.fixture
def erin(db: None) -> Account:
    """Somebody whose address is not confirmed."""
    return Account.objects.create_user("erin@example.org", "a long walk in the rain")


@pytest.fixture
def erin_web(erin: Account) -> Client:
    return logged_in(erin)


def link_of(account: Account) -> str:
    return "/" + verification_link(account).split("/", 3)[3]


def is_verified(account: Account) -> bool:
    account.refresh_from_db()
    return account.is_email_verified


def test_it_works() -> None:
    web = Client()
    web.post("/signup", {"email": "erin@example.org", "password": "a long walk in the rain"})
    erin = Account.objects.get()
    assert "Confirm your email address" in web.get(PAGE).content.decode()
    [mail] = sent()
    assert (mail.subject, mail.to) == ("Confirm your email address", ["erin@example.org"])
    assert web.get(path_in(mail)).status_code == 200
    assert not is_verified(erin)  # a mail scanner opens links too
    assert web.post(path_in(mail))["Location"] == "/dashboard"
    assert jobs(UPDATE) == [(UPDATE, {"account_id": erin.id})]  # its name is Stripe's to know now
    assert is_verified(erin)
    assert "unconfirmed" not in web.get(PAGE).content.decode()


def test_who_registers_by_the_api_is_asked_too_and_need_not_answer() -> None:
    body = {"email": "erin@example.org", "password": "a long walk in the rain"}
    key = APIClient().post("/api/auth/register", body).json()["apiKey"]
    Account.objects.update(status="ACTIVE")
    api = APIClient(headers={"Authorization": f"Bearer {key}"})
    assert api.post("/api/outbound", {}).status_code == 400  # not 402 or 403
    assert [mail.to for mail in sent()] == [["erin@example.org"]]


def test_a_sign_up_that_fails_sends_nothing(alice: Account) -> None:
    Client().post("/signup", {"email": alice.email, "password": "a long walk in the rain"})
    assert sent() == []


def test_no_job_holds_the_link(erin_web: Client) -> None:
    erin_web.post(SEND)
    [(_, arguments)] = jobs("accounts.tasks.send_mail")
    assert set(arguments) == {"account_id", "name", "context"}
    assert arguments["context"] == {}


class TestTheLink:
    def test_who_is_not_logged_in_logs_in_first(self, erin: Account) -> None:
        link = link_of(erin)  # another one, a second later, has another time in it
        for method in (Client().get, Client().post):
            assert method(link)["Location"] == f"/login?next={link}"
        assert not is_verified(erin)

    def test_the_reader_of_a_mail_cannot_make_a_strangers_account_theirs(
        self, erin: Account, bob_web: Client
    ) -> None:
        """Erin has typed in an address that is Bob's: he gets the mail, and not the account."""
        assert bob_web.get(link_of(erin)).status_code == 404
        assert bob_web.post(link_of(erin)).status_code == 404
        assert not is_verified(erin)

    def test_it_is_of_the_address_that_it_was_sent_to(
        self, erin: Account, erin_web: Client
    ) -> None:
        old = link_of(erin)
        Account.objects.filter(pk=erin.pk).update(email="erin@example.com")
        assert erin_web.post(old).status_code == 404
        assert not is_verified(erin)

    def test_it_expires(self, erin: Account, erin_web: Client, monkeypatch: Any) -> None:
        monkeypatch.setattr("accounts.links.VERIFICATION_VALID", -VERIFICATION_VALID)
        response = erin_web.post(link_of(erin))
        assert response.status_code == 404
        assert "expired" in response.content.decode()
        assert not is_verified(erin)

    def test_a_forged_one_is_none(self, erin: Account, erin_web: Client) -> None:
        for forged in (f"{erin.id}.1xVvrt.abc", "x", link_of(erin).rsplit("/", 1)[1][:-1]):
            assert erin_web.post(f"/email/confirm/{forged}").status_code == 404

    def test_twice_is_once(self, erin: Account, erin_web: Client) -> None:
        erin_web.post(link_of(erin))
        erin.refresh_from_db()
        first = erin.email_verified_at
        assert erin_web.post(link_of(erin))["Location"] == "/dashboard"
        erin.refresh_from_db()
        assert erin.email_verified_at == first

    def test_the_page_keeps_to_the_policy(self, erin: Account, erin_web: Client) -> None:
        response = erin_web.get(link_of(erin))
        assert Links(response.content.decode()).inline == []
        assert "'unsafe" not in response["Content-Security-Policy"]


class TestSendingAgain:
    def test_it_works(self, erin_web: Client) -> None:
        response = erin_web.post(SEND, {"next": PAGE})
        assert response["Location"] == PAGE
        assert [mail.to for mail in sent()] == [["erin@example.org"]]
        assert "We sent a link" in erin_web.get(PAGE).content.decode()

    def test_it_is_limited(self, erin_web: Client, settings: Any) -> None:
        settings.MAILS_PER_EMAIL = 2
        for _ in range(3):
            erin_web.post(SEND, {"next": PAGE})
        assert len(sent()) == 2
        assert "Too many attempts" in erin_web.get(PAGE).content.decode()

    def test_an_address_of_the_network_is_limited(self, erin_web: Client, settings: Any) -> None:
        settings.MAILS_PER_ADDRESS = 1
        for _ in range(2):
            erin_web.post(SEND)
        assert len(sent()) == 1

    def test_not_to_who_has_confirmed(self, alice_web: Client) -> None:
        alice_web.post(SEND)
        assert sent() == []

    def test_never_to_another_site(self, erin_web: Client) -> None:
        assert erin_web.post(SEND, {"next": "https://evil.example"})["Location"] == "/dashboard"

    def test_strangers_log_in(self) -> None:
        assert Client().post(SEND)["Location"].startswith("/login")


class TestOtherMails:
    def test_they_go_to_confirmed_addresses_alone(self, erin: Account, alice: Account) -> None:
        for account in (erin, alice):
            mail_queue(account=account, name="password_changed")
        assert [mail.to for mail in sent()] == [["alice@example.org"]]

    def test_what_counts_is_when_it_is_sent(self, erin: Account) -> None:
        mail_queue(account=erin, name="password_changed")
        Account.objects.filter(pk=erin.pk).update(email_verified_at=timezone.now())
        assert len(sent()) == 1


def test_without_a_mail_server_nobody_is_asked(erin_web: Client, settings: Any) -> None:
    settings.SENDS_MAIL = False
    assert "Resend link" not in erin_web.get(PAGE).content.decode()


def test_accounts_from_before_are_not_confirmed() -> None:
    assert Account(email="old@example.org").email_verified_at is None
    assert timedelta(days=1) < VERIFICATION_VALID
