"""Access to the admin: operators with a second factor, for twelve hours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from accounts.models import Account
from accounts.second_factors import has_second_factor, second_factors_remove_all
from dashboard.tests.mails import sent
from dashboard.tests.test_second_factor import APP, PAGE, STEP, give_password, secret_of
from dashboard.tests.test_sudo import NEW_KEY, SETTINGS, is_asked, proof
from devtools.browsing.authenticator import app_of, code

pytestmark = pytest.mark.django_db

LIST = reverse("admin:accounts_account_changelist")
OPERATORS_PAGES = ["/admin/", LIST, "/admin/jsi18n/", "/admin/nothing/"]

Later = Callable[..., None]


@pytest.fixture
def newcomer(db: None, password: str) -> Account:
    """An operator as ``createsuperuser`` makes one."""
    return Account.objects.create_superuser("nora@example.org", password)


def test_the_first_login_leads_to_a_second_factor(newcomer: Account, password: str) -> None:
    web, response = give_password(newcomer, password, next="/admin/")
    assert response["Location"] == "/admin/"
    response = web.get("/admin/", follow=True)
    assert response.redirect_chain == [(f"{PAGE}?next=%2Fadmin%2F", 302)]
    text = response.content.decode()
    assert "Operators need a second factor" in text
    assert f'href="{APP}?next=/admin/"' in text
    done = web.post(f"{APP}?next=/admin/", {"code": code(secret_of(web))}, follow=True)
    assert 'href="/admin/">I saved them' in done.content.decode()
    assert web.get("/admin/").status_code == 200


@pytest.mark.parametrize("path", [*OPERATORS_PAGES, "/operators/impersonate/{bob}"])
class TestTheRestIsClosed:
    def test_without_a_second_factor(
        self, newcomer: Account, bob: Account, password: str, path: str
    ) -> None:
        web, _ = give_password(newcomer, password)
        path = path.format(bob=bob.pk)
        for response in (web.get(path), web.post(path, {"action": "suspend"})):
            assert response["Location"].startswith(f"{PAGE}?next=")
        assert "impersonates" not in web.session

    def test_after_the_password_alone(
        self, operator: Account, bob: Account, password: str, path: str
    ) -> None:
        web, _ = give_password(operator, password)
        path = path.format(bob=bob.pk)
        for response in (web.get(path), web.post(path, {"action": "suspend"})):
            assert response["Location"].startswith("/admin/login/?next=")

    def test_in_a_session_that_is_older_than_it(
        self, newcomer: Account, bob: Account, password: str, path: str
    ) -> None:
        web, _ = give_password(newcomer, password)
        app_of(newcomer)
        assert web.get(path.format(bob=bob.pk))["Location"].startswith(f"{STEP}?next=")
        web.post(STEP, {"proof-code": code()})
        assert web.get(path.format(bob=bob.pk)).status_code in (200, 404)

    def test_when_it_was_removed_meanwhile(
        self, operator: Account, bob: Account, path: str
    ) -> None:
        web = Client()
        web.force_login(operator)
        second_factors_remove_all(account=operator)
        assert web.get(path.format(bob=bob.pk))["Location"].startswith(f"{PAGE}?next=")


class TestTwelveHours:
    def test_an_operators_session_ends_however_much_it_is_used(
        self, operator: Account, password: str, later: Later
    ) -> None:
        web, _ = give_password(operator, password)
        web.post(STEP, {"proof-code": code()})
        for _ in range(11):
            later(hours=1)
            assert web.get("/admin/").status_code == 200
            web.post("/dashboard/keys/new")  # which writes to the session
        later(minutes=59)
        assert web.get("/admin/").status_code == 200
        later(minutes=1)
        assert web.get("/admin/")["Location"].startswith("/admin/login/")
        assert web.get("/dashboard")["Location"].startswith("/login")

    def test_proving_it_again_does_not_put_it_off(
        self, operator: Account, password: str, later: Later
    ) -> None:
        web = Client()
        web.force_login(operator)
        later(hours=11, minutes=59)
        sent_ = {"proof-password": password, "proof-instead-of": "POST"}
        assert "rtk_" in web.post("/dashboard/keys/new", sent_, follow=True).content.decode()
        later(minutes=1)
        assert web.get("/dashboard")["Location"].startswith("/login")

    def test_another_login_begins_anew(
        self, operator: Account, password: str, later: Later
    ) -> None:
        web = Client()
        web.force_login(operator)
        later(hours=11)
        web.post("/login", {"email": operator.email, "password": password})
        web.post(STEP, {"proof-code": code()})
        later(hours=11)
        assert web.get("/admin/").status_code == 200

    def test_a_customers_stays(self, alice: Account, password: str, later: Later) -> None:
        web, _ = give_password(alice, password)
        later(days=13)
        assert web.get("/dashboard").status_code == 200

    def test_who_becomes_an_operator_logs_in_again(
        self, bob: Account, password: str, later: Later
    ) -> None:
        web, _ = give_password(bob, password)
        later(hours=13)
        Account.objects.filter(pk=bob.pk).update(is_staff=True, is_superuser=True)
        assert web.get("/admin/")["Location"] == "/login?next=/admin/"
        assert web.get("/dashboard").status_code == 302

    def test_so_long_one_looks_as_a_customer(
        self, alice: Account, bob: Account, password: str, later: Later
    ) -> None:
        """Though the session is longer, of who has become an operator in it."""
        app_of(bob)
        web, _ = give_password(bob, password)
        web.post(STEP, {"proof-code": code()})
        Account.objects.filter(pk=bob.pk).update(is_staff=True, is_superuser=True)
        assert web.post(f"/operators/impersonate/{alice.pk}").status_code == 302
        assert (
            "You are viewing as <b>alice@example.org</b>" in web.get("/dashboard").content.decode()
        )
        later(hours=12)
        response = web.get("/dashboard", follow=True)
        assert "/login" in response.redirect_chain[-1][0]
        assert "alice@example.org" not in response.content.decode()


class TestSudo:
    @pytest.fixture
    def olga(self, operator: Account, later: Later) -> Client:
        client = Client()
        client.force_login(operator)
        later(minutes=16)
        return client

    def test_before_rights_change(self, olga: Client, bob: Account, password: str) -> None:
        path = reverse("admin:accounts_account_change", args=[bob.pk])
        assert olga.get(path).status_code == 200
        body = {"email": bob.email, "status": "ACTIVE", "is_active": "on", "is_staff": "on"}
        body |= {"api_keys-TOTAL_FORMS": "0", "api_keys-INITIAL_FORMS": "0"}
        assert is_asked(olga.post(path, body))
        bob.refresh_from_db()
        assert not bob.is_staff
        assert olga.post(path, proof(password, **body)).status_code == 302
        bob.refresh_from_db()
        assert bob.is_staff

    @pytest.mark.parametrize(
        "path",
        [
            "/admin/accounts/account/add/",
            "/admin/accounts/account/{id}/delete/",
            "/admin/accounts/account/{id}/password/",
            "/admin/accounts/account/",
            "/admin/auth/group/add/",
            "/operators/impersonate/{id}",
        ],
    )
    def test_where_else(self, olga: Client, bob: Account, path: str) -> None:
        assert is_asked(olga.post(path.format(id=bob.pk), {"action": "suspend"}))
        assert Account.objects.filter(pk=bob.pk).exists()
        assert "impersonates" not in olga.session

    def test_an_action_goes_on_where_it_was(
        self, olga: Client, bob: Account, password: str
    ) -> None:
        path = "/admin/accounts/account/"
        body = {"action": "suspend", "_selected_action": bob.pk}
        assert is_asked(olga.post(path, body))
        asked = olga.post(path, proof(password, **body))
        assert "Suspend these accounts?" in asked.content.decode()

    def test_what_changes_no_rights_is_not_asked(self, olga: Client) -> None:
        sent = {"action": "hang_up", "_selected_action": "x"}
        assert not is_asked(olga.post("/admin/telephony/call/", sent))

    def test_looking_as_a_customer_proves_nothing(
        self, operator: Account, bob: Account, password: str, later: Later
    ) -> None:
        """The operator's session, not the customer's, is what a password would open."""
        client = Client()
        client.force_login(operator)
        client.post(f"/operators/impersonate/{bob.pk}")
        assert client.get(APP).status_code == 403
        assert client.post(NEW_KEY, proof(password)).status_code == 403
        assert client.get(f"{SETTINGS}/second-factor").status_code == 200


class TestRemovingACustomers:
    BODY = {"action": "remove_second_factor"}

    @pytest.fixture
    def olga(self, operator: Account) -> Client:
        client = Client()
        client.force_login(operator)
        return client

    def test_it_works(self, olga: Client, alice: Account) -> None:
        app_of(alice)
        body = self.BODY | {"_selected_action": alice.pk}
        asked = olga.post(LIST, body)
        assert "the password alone is enough to sign in" in asked.content.decode()
        assert has_second_factor(alice)
        olga.post(LIST, body | {"confirmed": "yes"})
        assert not has_second_factor(alice)
        assert (
            "Removed the second factor" in LogEntry.objects.get(object_id=alice.pk).change_message
        )
        assert "Support removed all second factors" in str(sent()[-1].body)

    def test_not_an_operators(self, olga: Client, operator: Account, newcomer: Account) -> None:
        app_of(newcomer)
        body = self.BODY | {"_selected_action": [operator.pk, newcomer.pk], "confirmed": "yes"}
        assert "is an operator&#x27;s" in olga.post(LIST, body, follow=True).content.decode()
        assert has_second_factor(operator)
        assert has_second_factor(newcomer)

    def test_who_has_none(self, olga: Client, bob: Account) -> None:
        body = self.BODY | {"_selected_action": bob.pk, "confirmed": "yes"}
        response = olga.post(LIST, body, follow=True)
        assert "@example.org has no second factor." in response.content.decode()
        assert not LogEntry.objects.exists()


def test_nothing_else_of_allauth_is_there(operator: Account) -> None:
    web = Client()
    web.force_login(operator)
    text = web.get("/admin/").content.decode()
    assert "/admin/mfa/" not in text
    assert "/admin/account/" not in text
    for path in ("/accounts/login/", "/accounts/signup/", "/accounts/2fa/", "/signup/", "/2fa/"):
        assert web.get(path).status_code == 404
