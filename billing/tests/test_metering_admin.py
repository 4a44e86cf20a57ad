"""Meter events and problems in the admin."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account
from billing.metering.events import meter_events_send
from billing.metering.problems import problem_note
from billing.models import MeterEvent, MeterProblem
from billing.tests.metered import become_customer, event, set_up_meter, subscription
from billing.tests.watched import WatchedStripe, nothing, refusal
from core.admin import CappedPaginator

pytestmark = pytest.mark.django_db

EVENTS = reverse("admin:billing_meterevent_changelist")
PROBLEMS = reverse("admin:billing_meterproblem_changelist")


@pytest.fixture
def olga(client: Client, operator: Account) -> Client:
    """A browser in which the operator has logged in."""
    client.force_login(operator)
    return client


@pytest.fixture
def onlooker(client: Client) -> Client:
    """A browser of somebody who may look, and not touch."""
    account = Account.objects.create_user("otto@example.org", "a long password", is_staff=True)
    names = ["view_meterevent", "view_meterproblem"]
    account.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(account)
    return client


def text_of(browser: Client, path: str, **query: str) -> str:
    response = browser.get(path, query)
    assert response.status_code == 200
    return response.content.decode()


def act(browser: Client, path: str, action: str, *things: MeterEvent | MeterProblem) -> str:
    form = {"action": action, "_selected_action": [thing.pk for thing in things]}
    return browser.post(path, form, follow=True).content.decode()


def problem_of(account: Account, key: str = "difference-1") -> MeterProblem:
    problem_note(kind="difference", key=key, account_id=account.id, detail={"stripes": 41})
    return MeterProblem.objects.get(key=key)


class TestEvents:
    def test_it_works(self, olga: Client, alice: Account) -> None:
        shown = event(alice, 3, last_error="APIConnectionError")
        text = text_of(olga, EVENTS)
        for part in (shown.identifier, "alice@example.org", "APIConnectionError", "3 minutes"):
            assert part in text

    def test_it_counts_the_minutes_of_what_it_shows(
        self, olga: Client, alice: Account, bob: Account
    ) -> None:
        event(alice, 3, state="sent")
        event(alice, 4, state="too-old")
        event(bob, 5, state="too-old")
        assert "12 minutes" in text_of(olga, EVENTS)
        assert "9 minutes" in text_of(olga, EVENTS, state__exact="too-old")
        assert "4 minutes" in text_of(olga, EVENTS, state__exact="too-old", q=alice.email)

    def test_it_does_not_count_for_ever(
        self, olga: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(CappedPaginator, "MOST", 2)
        for _ in range(3):
            event(alice, 1)
        assert "at least 2 minutes" in text_of(olga, EVENTS)

    @pytest.mark.parametrize("term", ["{identifier}", "{account}", "Alice@example.org"])
    def test_one_can_be_found(self, olga: Client, alice: Account, bob: Account, term: str) -> None:
        found, other = event(alice), event(bob)
        term = term.format(identifier=found.identifier, account=alice.id)
        text = text_of(olga, EVENTS, q=f" {term} ")
        assert found.identifier in text
        assert other.identifier not in text

    def test_it_shows_one(self, olga: Client, alice: Account) -> None:
        shown = event(alice, 3)
        page = reverse("admin:billing_meterevent_change", args=[shown.pk])
        assert shown.identifier in text_of(olga, page)

    def test_nothing_can_be_changed(self, olga: Client, alice: Account) -> None:
        page = reverse("admin:billing_meterevent_change", args=[event(alice, 3).pk])
        assert olga.post(page, {"minutes": 1}).status_code == 403
        assert olga.get(reverse("admin:billing_meterevent_add")).status_code == 403
        assert MeterEvent.objects.get().minutes == 3


class TestSendAgain:
    def test_it_works(self, olga: Client, alice: Account, stripes_meter: WatchedStripe) -> None:
        set_up_meter()
        become_customer(alice, subscription())
        refused = event(alice)
        stripes_meter.before = lambda request: refusal("No.")
        meter_events_send()
        assert MeterProblem.objects.get().resolved_at is None
        assert "Events to be sent again: 1." in act(olga, EVENTS, "send_again", refused)
        assert MeterProblem.objects.get().resolved_at
        assert LogEntry.objects.get().get_change_message() == "Requested to send it again."
        stripes_meter.before = nothing
        meter_events_send()
        assert set(stripes_meter.events) == {refused.identifier}

    def test_what_is_refused_again_is_a_problem_again(
        self, olga: Client, alice: Account, stripes_meter: WatchedStripe
    ) -> None:
        set_up_meter()
        become_customer(alice, subscription())
        refused = event(alice)
        stripes_meter.before = lambda request: refusal("No.")
        meter_events_send()
        act(olga, EVENTS, "send_again", refused)
        meter_events_send()
        [problem] = MeterProblem.objects.all()
        assert problem.resolved_at is None
        assert problem.detail["attempts"] == 2

    @pytest.mark.parametrize("state", ["pending", "sent", "too-old"])
    def test_nothing_else_is_sent_again(self, olga: Client, alice: Account, state: str) -> None:
        other = event(alice, state=state)
        assert "Events to be sent again: 0." in act(olga, EVENTS, "send_again", other)
        assert MeterEvent.objects.get().state == state

    def test_an_onlooker_cannot(self, onlooker: Client, alice: Account) -> None:
        refused = event(alice, state="refused")
        assert "Send rejected events again" not in text_of(onlooker, EVENTS)
        act(onlooker, EVENTS, "send_again", refused)
        assert MeterEvent.objects.get().state == "refused"


class TestProblems:
    def test_it_works(self, olga: Client, alice: Account) -> None:
        problem = problem_of(alice)
        text = text_of(olga, PROBLEMS)
        assert "differs from Stripe" in text
        assert "alice@example.org" in text
        page = reverse("admin:billing_meterproblem_change", args=[problem.pk])
        assert "stripes" in text_of(olga, page)

    def test_those_to_be_looked_at_can_be_told_apart(self, olga: Client, alice: Account) -> None:
        problem_of(alice, "difference-open")
        problem_of(alice, "difference-done")
        MeterProblem.objects.filter(key="difference-done").update(resolved_at=timezone.now())
        for value, shown, hidden in (("yes", "open", "done"), ("no", "done", "open")):
            text = text_of(olga, PROBLEMS, open=value)
            assert f"difference-{shown}" in text
            assert f"difference-{hidden}" not in text

    def test_one_can_be_marked_as_resolved(self, olga: Client, alice: Account) -> None:
        problem = problem_of(alice)
        assert "Resolved: 1." in act(olga, PROBLEMS, "mark_as_resolved", problem)
        problem.refresh_from_db()
        assert problem.resolved_at
        assert LogEntry.objects.get().get_change_message() == "Marked as resolved."
        assert "Resolved: 0." in act(olga, PROBLEMS, "mark_as_resolved", problem)

    def test_an_onlooker_cannot(self, onlooker: Client, alice: Account) -> None:
        problem = problem_of(alice)
        assert "Mark as resolved" not in text_of(onlooker, PROBLEMS)
        act(onlooker, PROBLEMS, "mark_as_resolved", problem)
        problem.refresh_from_db()
        assert problem.resolved_at is None
