"""Operators' visits to a customer's dashboard: read-only, announced, limited and logged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

import dashboard.urls
from accounts.audit import Action, AuditEvent
from accounts.models import Account
from core.ids import new_id
from dashboard.access import CHANGES
from dashboard.tests.mails import jobs
from devtools.browsing.places import SECTIONS
from operations.impersonation import END_TASK
from operations.tasks import end_visit

pytestmark = pytest.mark.django_db

OVERVIEW = "/dashboard"
BANNER = "You are viewing as <b>alice@example.org</b>"
SETTINGS = "/dashboard/settings"
Later = Callable[..., None]


def path_of(account: Account) -> str:
    return reverse("impersonate", args=[account.pk])


def admin_of(account: Account) -> str:
    return reverse("admin:accounts_account_change", args=[account.pk])


@pytest.fixture
def olga(operator: Account) -> Client:
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def visitor(olga: Client, alice: Account) -> Client:
    """The operator's browser, which views as alice."""
    olga.post(path_of(alice))
    return olga


def ends(account: Account) -> list[str]:
    events = AuditEvent.objects.of(account).filter(action=Action.VIEW_ENDED)
    return [event.detail["how"] for event in events]


class TestBegin:
    def test_it_asks_first_and_is_logged(self, olga: Client, alice: Account) -> None:
        text = olga.get(path_of(alice)).content.decode()
        assert "View the dashboard as alice" in text
        assert "For 30 minutes" in text
        assert not LogEntry.objects.exists()
        assert olga.post(path_of(alice))["Location"] == OVERVIEW
        assert "Viewed the dashboard" in LogEntry.objects.get().get_change_message()
        event = AuditEvent.objects.of(alice).get()
        assert (event.action, event.actor_label) == (Action.VIEWED, "olga@example.org")

    @pytest.mark.parametrize("who", ["alice_web", "client"])
    def test_it_is_for_operators(self, request: Any, who: str, bob: Account) -> None:
        client = request.getfixturevalue(who)
        assert client.post(path_of(bob))["Location"].startswith("/admin/login/")

    def test_nobody_looks_as_another_superuser(self, olga: Client, operator: Account) -> None:
        assert olga.post(path_of(operator)).status_code == 404

    def test_another_visit_ends_the_first(
        self, visitor: Client, alice: Account, bob: Account
    ) -> None:
        visitor.post(path_of(bob))
        assert ends(alice) == ["another visit began"]
        assert "bob@example.org" in visitor.get(OVERVIEW).content.decode()


class TestEnd:
    def test_the_operator_stops(self, visitor: Client, operator: Account, alice: Account) -> None:
        response = visitor.post(reverse("stop-impersonating"))
        assert response["Location"] == admin_of(alice)
        assert "impersonates" not in visitor.session
        event = AuditEvent.objects.of(alice).get(action=Action.VIEW_ENDED)
        assert (event.detail["how"], event.actor_id) == ("stopped", operator.id)
        begun = AuditEvent.objects.of(alice).get(action=Action.VIEWED)
        assert event.detail["id"] == begun.detail["id"]

    def test_signing_out(self, visitor: Client, alice: Account) -> None:
        visitor.post(reverse("log-out"))
        assert ends(alice) == ["signed out"]

    def test_half_an_hour(self, visitor: Client, alice: Account, later: Later) -> None:
        later(minutes=29, seconds=59)
        assert BANNER in visitor.get(OVERVIEW).content.decode()
        later(seconds=1)
        assert visitor.get(OVERVIEW)["Location"] == admin_of(alice)
        assert "no longer viewing" in visitor.get(admin_of(alice)).content.decode()
        assert ends(alice) == ["time limit"]
        assert BANNER not in visitor.get(OVERVIEW).content.decode()

    @pytest.mark.parametrize(
        ("who", "change", "how", "said"),
        [
            (
                "operator",
                {"is_staff": False},
                "permission removed",
                "you no longer have permission",
            ),
            (
                "alice",
                {"is_staff": True, "is_superuser": True},
                "account belongs to an operator",
                "the account now belongs to an operator",
            ),
        ],
    )
    def test_a_right_that_is_lost_is_not_called_a_time_limit(
        self, request: Any, visitor: Client, who: str, change: Any, how: str, said: str
    ) -> None:
        Account.objects.filter(pk=request.getfixturevalue(who).pk).update(**change)
        response = visitor.get(OVERVIEW, follow=True)
        assert response.status_code == 200
        text = response.content.decode()
        assert f"no longer viewing the dashboard as a customer: {said}. Nothing" in text
        assert BANNER not in text
        assert ends(request.getfixturevalue("alice")) == [how]

    def test_a_sign_in_of_long_ago(self, visitor: Client, alice: Account) -> None:
        """The operator signs in again, and is back at the account."""
        session = visitor.session
        session["began"] -= timedelta(hours=12).total_seconds()
        session.save()
        assert visitor.get(OVERVIEW)["Location"] == admin_of(alice)
        response = visitor.get(admin_of(alice), follow=True)
        assert "you signed in more than 12 hours ago." in response.content.decode()
        assert ends(alice) == ["sign-in expired"]

    @pytest.mark.parametrize("kept", [{"id": "x"}, {"account": 1}, "x"])
    def test_a_visit_that_another_release_stored_is_dropped(
        self, visitor: Client, kept: object
    ) -> None:
        session = visitor.session
        session["impersonates"] = kept
        session.save()
        response = visitor.get(OVERVIEW)
        assert response.status_code == 200
        assert "You are viewing as" not in response.content.decode()
        assert "impersonates" not in visitor.session

    def test_a_form_sent_after_it_changes_nobody(
        self, visitor: Client, operator: Account, alice: Account, later: Later
    ) -> None:
        """Least of all the operator's own account, whose session it is."""
        later(minutes=30)
        response = visitor.post(reverse("change-company"), {"company_name": "Other"})
        assert response["Location"] == admin_of(alice)
        for account in (operator, alice):
            before = account.company_name
            account.refresh_from_db()
            assert account.company_name == before

    def test_a_part_of_a_page_leads_the_whole_page_away(
        self, visitor: Client, alice: Account, later: Later
    ) -> None:
        later(minutes=30)
        response = visitor.get("/dashboard/live", headers={"HX-Request": "true"})
        assert response["HX-Redirect"] == admin_of(alice)

    def test_no_request_comes_after_it(self, visitor: Client, alice: Account) -> None:
        """A job notes the end, and only if nothing else did."""
        [(_, arguments)] = jobs(END_TASK)
        end_visit(**arguments)
        end_visit(**arguments)
        visitor.post(reverse("stop-impersonating"))
        [event] = AuditEvent.objects.of(alice).filter(action=Action.VIEW_ENDED)
        assert event.actor_label == "olga@example.org"


def dashboard_paths() -> dict[str, str]:
    """Return a path of each view of the dashboard, by its URL's name."""
    modules = [each.urlconf_module for each in dashboard.urls.urlpatterns]
    return {
        each.name: reverse(each.name, kwargs=dict.fromkeys(each.pattern.converters, new_id()))
        for module in modules
        for each in module.urlpatterns
    }


class TestRefusals:
    @pytest.mark.parametrize("name", CHANGES)
    def test_a_change_is_explained_where_it_was_tried(
        self, visitor: Client, alice: Account, name: str
    ) -> None:
        before = AuditEvent.objects.of(alice).count()
        page = "http://testserver/dashboard/settings?from=here"
        headers = {"Accept": "text/html", "Referer": page}
        response = visitor.post(dashboard_paths()[name], headers=headers)
        assert response["Location"] == "/dashboard/settings?from=here"
        text = visitor.get(response["Location"]).content.decode()
        said = (
            f"You can't {CHANGES[name]} while you view as alice@example.org. Nothing was changed."
        )
        assert said in text.replace("&#x27;", "'")
        assert AuditEvent.objects.of(alice).count() == before

    def test_each_form_has_a_name(self, visitor: Client, alice_web: Client) -> None:
        """Every view that takes a form says what it did not do."""
        for name, path in dashboard_paths().items():
            takes_forms = "POST" in alice_web.put(path).headers.get("Allow", "")
            is_refused = b"while you view as" in visitor.put(path).content
            assert not (takes_forms and is_refused) or name in CHANGES, name

    def test_a_form_that_says_not_where_it_was(self, visitor: Client) -> None:
        response = visitor.post("/dashboard/keys/new", headers={"Accept": "text/html"})
        assert response["Location"] == "/dashboard/keys"

    def test_a_page_that_asks_for_a_password(self, visitor: Client) -> None:
        """The operator's session, not the customer's, is what a password would open."""
        response = visitor.get(f"{SETTINGS}/second-factor/app", headers={"Accept": "text/html"})
        assert response["Location"] == f"{SETTINGS}/second-factor"
        text = visitor.get(response["Location"]).content.decode()
        assert "add an authenticator app while you view as" in text

    def test_htmx_reloads_the_page(self, visitor: Client) -> None:
        headers = {"HX-Request": "true", "Referer": "http://testserver/dashboard/calls"}
        response = visitor.post("/dashboard/keys/new", headers=headers)
        assert response["HX-Redirect"] == "/dashboard/calls"

    def test_a_script_gets_the_sentence(self, visitor: Client) -> None:
        response = visitor.post("/dashboard/test-call/start", headers={"Accept": "*/*"})
        assert response.status_code == 403
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        assert response.content.decode() == (
            "You can't start a test call while you view as alice@example.org. Nothing was changed."
        )


@pytest.mark.parametrize(
    "path", [*SECTIONS.values(), "/docs", "/", "/dashboard/calls/nothing", "/admin/"]
)
def test_the_banner_is_on_every_page(visitor: Client, path: str) -> None:
    assert BANNER in visitor.get(path).content.decode()


def test_there_is_no_banner_otherwise(olga: Client, alice_web: Client, alice: Account) -> None:
    for web in (olga, alice_web, Client()):
        assert "You are viewing as" not in web.get("/dashboard", follow=True).content.decode()
