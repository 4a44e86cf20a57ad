"""When operators are told that something needs attention, and that it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account
from dashboard.tests.test_notifications import Slack, slack
from operations.conditions import BY_KEY, CONDITIONS, Facts, Finding, Severity
from operations.incidents import (
    AGAIN_AFTER,
    CLEAR_FOR,
    HOLDS_FOR,
    KEPT_FOR,
    MOST_AN_HOUR,
    RECENT,
    _looked,
    incidents_forget,
    incidents_look,
    incidents_note,
)
from operations.models import Incident, Look, Notice
from operations.notices import GIVEN_UP_AFTER, send_due
from telephony.models import Process
from telephony.processes import Identity, process_beat

__all__ = ["slack"]

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 4, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WORKER = "no-worker"


@pytest.fixture(autouse=True)
def operators(settings: Settings) -> None:
    settings.OPERATOR_EMAILS = ["ops@example.org", "boss@example.org"]


def note(minute: float, *keys: str, looked_at: tuple[str, ...] = (WORKER,)) -> None:
    """Look some minutes after noon, when the conditions with these keys are met."""
    found = {key: Finding("No worker", "/admin/", "is running") for key in keys}
    incidents_note(looked_at={*looked_at, *keys}, found=found, now=NOON + minute * MINUTE)


def told() -> list[tuple[str, str]]:
    return [
        (notice.incident.key, notice.event)
        for notice in Notice.objects.select_related("incident").order_by("pk")
    ]


class TestIncidents:
    def test_operators_are_told_once_and_once_when_it_is_over(self) -> None:
        for minute in range(5):
            note(minute, WORKER)
        assert told() == [(WORKER, "began")]
        for minute in range(5, 12):
            note(minute)
        assert told() == [(WORKER, "began"), (WORKER, "ended")]
        incident = Incident.objects.get()
        assert (incident.began_at, incident.ended_at) == (NOON, NOON + 5 * MINUTE)

    def test_what_passes_soon_is_no_incident(self) -> None:
        note(0, WORKER)
        note(HOLDS_FOR / MINUTE - 0.1, WORKER)
        note(3)
        note(3 + CLEAR_FOR / MINUTE)
        assert told() == []
        assert not Incident.objects.exists()

    def test_what_comes_and_goes_is_one_incident(self) -> None:
        for minute in range(30):
            note(minute, *([WORKER] if minute % 3 == 0 else []))
        assert told() == [(WORKER, "began")]
        assert Incident.objects.get().ended_at is None

    def test_what_nobody_looked_at_may_have_passed_meanwhile(self) -> None:
        note(0, WORKER)
        note(30, WORKER)
        assert told() == []
        note(31, WORKER)
        note(32, WORKER)
        assert told() == [(WORKER, "began")]

    def test_what_was_not_looked_at_goes_on(self) -> None:
        for minute in range(4):
            note(minute, WORKER)
        for minute in range(4, 20):
            note(minute, looked_at=("no-engine",))
        assert told() == [(WORKER, "began")]

    def test_the_same_again_is_told_an_hour_after_it_was_told(self) -> None:
        for minute in range(4):
            note(minute, WORKER)
        for minute in range(4, 11):
            note(minute)
        again_at = (HOLDS_FOR + AGAIN_AFTER) / MINUTE
        for minute in range(11, int(again_at) + 1):
            note(minute, WORKER)
            assert len(told()) == (2 if minute < again_at else 3)

    def test_more_wait_for_the_next_hour(self) -> None:
        keys = [condition.key for condition in CONDITIONS][: MOST_AN_HOUR + 2]
        for minute in range(4):
            note(minute, *keys)
        assert len(told()) == MOST_AN_HOUR
        for minute in range(4, 64):
            note(minute, *keys)
        assert {key for key, _ in told()} == set(keys)

    def test_nobody_hears_of_the_end_of_what_nobody_heard_of(self) -> None:
        keys = [condition.key for condition in CONDITIONS][: MOST_AN_HOUR + 1]
        for minute in range(4):
            note(minute, *keys)
        for minute in range(4, 15):
            note(minute, looked_at=tuple(keys))
        assert len(told()) == 2 * MOST_AN_HOUR
        assert Incident.objects.count() == MOST_AN_HOUR

    def test_those_that_ended_long_ago_are_deleted(self) -> None:
        for ended in (None, KEPT_FOR - MINUTE, KEPT_FOR + MINUTE):
            ended_at = ended and timezone.now() - ended
            Incident.objects.create(key=WORKER, began_at=NOON, seen_at=NOON, ended_at=ended_at)
        incidents_forget()
        assert Incident.objects.count() == 2


class TestLooking:
    def test_processes_take_turns(self) -> None:
        incidents_look(scope="processes")
        first = Incident.objects.get(key=WORKER).seen_at
        incidents_look(scope="processes")
        assert Incident.objects.get(key=WORKER).seen_at == first
        Look.objects.update(looked_at=timezone.now() - MINUTE)
        incidents_look(scope="processes")
        assert Incident.objects.get(key=WORKER).seen_at > first

    def test_what_is_often_a_customers_fault_is_no_incident(self) -> None:
        incidents_look(scope="rest")
        incidents_look(scope="processes")
        kinds = {BY_KEY[key].severity for key in Incident.objects.values_list("key", flat=True)}
        assert kinds == {Severity.CRITICAL}

    def test_a_crash_is_one_for_an_hour(self) -> None:
        me = Identity(Process.Kind.WEB)
        process_beat(me)
        condition = BY_KEY["silent-processes"]
        for silent_for, is_incident in ((RECENT - MINUTE, True), (RECENT + MINUTE, False)):
            Process.objects.update(last_seen_at=timezone.now() - silent_for)
            _, found = _looked([condition], Facts())
            assert (condition.key in found) == is_incident

    def test_a_condition_that_cannot_be_looked_at_keeps_no_other_from_it(self) -> None:
        def fail(facts: Facts) -> Finding | None:
            Process.objects.filter(pid="seven").exists()
            raise AssertionError

        broken = replace(CONDITIONS[0], key="broken", find=fail)
        looked_at, found = _looked([broken, BY_KEY[WORKER]], Facts())
        assert looked_at == [WORKER]
        assert found.keys() == {WORKER}


class TestMessages:
    def begin(self, *keys: str) -> None:
        for minute in range(4):
            note(minute, *(keys or (WORKER,)))
        # As if it were now: they are sent for a day.
        Notice.objects.update(created_at=timezone.now(), due_at=timezone.now())

    def test_one_email_goes_to_every_operator(self) -> None:
        self.begin()
        send_due()
        send_due()
        [message] = mail.outbox
        assert message.to == ["ops@example.org", "boss@example.org"]
        assert message.subject == "Switchhook: No worker is running"
        for part in ("No worker is running, since 5 Apr 2026, 12:00 UTC (critical).", "/admin/"):
            assert part in message.body

    def test_another_one_says_that_it_is_over(self) -> None:
        self.begin()
        for minute in range(4, 11):
            note(minute)
        now = timezone.now()
        Notice.objects.filter(event="ended").update(created_at=now, due_at=now)
        send_due()
        message = mail.outbox[-1]
        assert message.subject == "Switchhook: Over: No worker is running"
        assert "It began 5 Apr 2026, 12:00 UTC and lasted 4 minutes." in message.body

    def test_a_webhook_that_fails_is_tried_again_and_the_email_is_not(
        self, slack: Slack, settings: Settings, logged: Callable[[], str]
    ) -> None:
        settings.OPERATOR_WEBHOOK_URL = slack.url
        slack.status = 500
        self.begin()
        send_due()
        notice = Notice.objects.get(channel="webhook")
        assert (notice.attempts, notice.sent_at) == (1, None)
        assert notice.problem == "The webhook responded with HTTP 500."
        send_due()
        assert len(slack.bodies) == 1
        slack.status = 200
        Notice.objects.update(due_at=timezone.now())
        send_due()
        assert len(slack.bodies) == 2
        assert b"*Switchhook: No worker is running*" in slack.bodies[-1]
        assert len(mail.outbox) == 1
        assert not Notice.objects.filter(sent_at=None).exists()
        assert slack.url not in logged()

    def test_a_mail_server_that_is_down(self, settings: Settings) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
        self.begin()
        send_due()
        problem = "The mail server did not accept it (ConnectionRefusedError)."
        assert Notice.objects.get().problem == problem

    def test_what_is_over_is_not_told_as_if_it_began(
        self, slack: Slack, settings: Settings
    ) -> None:
        """The beginning could not be told while it lasted."""
        settings.OPERATOR_WEBHOOK_URL = slack.url
        slack.status = 500
        self.begin()
        send_due()
        slack.status = 200
        for minute in range(4, 11):
            note(minute)
        Notice.objects.update(created_at=timezone.now(), due_at=timezone.now())
        send_due()
        assert [b"Over: No worker" in body for body in slack.bodies] == [False, True]
        assert [message.subject for message in mail.outbox] == [
            "Switchhook: No worker is running",
            "Switchhook: Over: No worker is running",
        ]

    def test_it_is_given_up_after_a_day(self) -> None:
        self.begin()
        Notice.objects.update(created_at=timezone.now() - GIVEN_UP_AFTER)
        send_due()
        assert mail.outbox == []

    def test_without_an_address_nobody_is_told(self, settings: Settings) -> None:
        settings.OPERATOR_EMAILS = []
        self.begin()
        assert told() == []
        assert Incident.objects.get().confirmed_at

    @pytest.mark.parametrize("key", BY_KEY)
    def test_each_condition_has_a_message(self, key: str) -> None:
        self.begin(key)
        send_due()
        [message] = mail.outbox
        assert message.subject == f"Switchhook: {BY_KEY[key].title}"
        assert f"/docs/operations#{BY_KEY[key].section}" in message.body
        assert "`" not in message.body


def test_the_admin_shows_incidents_and_what_was_sent(
    client: Client, operator: Account, settings: Settings
) -> None:
    for minute in range(4):
        note(minute, WORKER)
    note(3, "no-engine", looked_at=("no-engine",))
    client.force_login(operator)
    text = client.get(reverse("admin:operations_incident_changelist")).content.decode()
    assert "No worker is running" in text
    assert "No engine" not in text  # it has not lasted long enough
    [incident] = Incident.objects.filter(key=WORKER)
    path = reverse("admin:operations_incident_change", args=[incident.pk])
    text = client.get(path).content.decode()
    assert BY_KEY[WORKER].remedy in text
    assert "Began, by email: not sent in 0 attempts." in text
    Notice.objects.update(sent_at=NOON)
    text = client.get(path).content.decode()
    assert "Began, by email: sent at 5 Apr 2026, 12:00:00 UTC" in text
