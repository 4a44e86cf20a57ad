"""The page of notification settings."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.audit import AuditEvent
from accounts.models import Account
from dashboard.tests.pages import assert_well_made
from telephony import notices
from telephony.models import NotificationSettings

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/settings/notifications"
EMAILS, WEBHOOK = f"{PAGE}/emails", f"{PAGE}/webhook"
TEST, REMOVE = f"{WEBHOOK}/test", f"{WEBHOOK}/remove"
URL = "https://hooks.slack.com/services/T000/B000/a1B2c3D4"


class Slack:
    """A webhook on a real socket: set ``status``, read ``bodies``."""

    def __init__(self) -> None:
        self.status, self.bodies = 200, []  # type: ignore[var-annotated]
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                slack.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(slack.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/x"


@pytest.fixture
def slack() -> Iterator[Slack]:
    slack = Slack()
    thread = Thread(target=slack.server.serve_forever)
    thread.start()
    yield slack
    slack.server.shutdown()
    thread.join()
    slack.server.server_close()


def text_of(web: Client) -> str:
    return str(web.get(PAGE).content.decode())


def test_the_page(alice_web: Client) -> None:
    text = text_of(alice_web)
    assert_well_made(text)
    assert "They go to <b>alice@example.org</b>." in text
    assert text.count("checked") == 2
    assert ">Send a test message<" not in text
    assert PAGE in alice_web.get("/dashboard/settings").content.decode()


def test_emails(alice: Account, alice_web: Client) -> None:
    assert alice_web.post(EMAILS, {"calls": "on"})["Location"] == PAGE
    chosen = NotificationSettings.objects.get(account=alice)
    assert (chosen.emails_calls, chosen.emails_callbacks) == (True, False)
    assert text_of(alice_web).count("checked") == 1
    alice_web.post(EMAILS, {"calls": "on"})
    (event,) = AuditEvent.objects.of(alice).filter(action="notifications.changed")
    assert event.detail == {"emails_about_calls": True, "emails_about_callbacks": False}


def test_a_webhook_is_shown_masked(alice: Account, alice_web: Client) -> None:
    assert alice_web.post(WEBHOOK, {"url": URL})["Location"] == PAGE
    text = text_of(alice_web)
    assert "https://hooks.slack.com/…c3D4" in text
    assert "T000" not in text
    assert "None yet" in text
    (event,) = AuditEvent.objects.of(alice).filter(action="notifications.changed")
    assert event.detail == {"webhook": "https://hooks.slack.com"}


@pytest.mark.parametrize(
    "url", ["", "ftp://example.com/x", "https://user:secret@hooks.slack.com/x", "nonsense"]
)
def test_a_url_that_cannot_be_called(alice_web: Client, url: str) -> None:
    response = alice_web.post(WEBHOOK, {"url": url})
    assert response.status_code == 400
    assert response.context["forms"]["webhook"].errors["url"]
    assert not NotificationSettings.objects.exists()


def test_only_public_addresses_over_https(alice_web: Client, settings: Any) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = False
    for url in ("http://hooks.slack.com/x", "https://127.0.0.1/x", "https://localhost/x"):
        assert alice_web.post(WEBHOOK, {"url": url}).status_code == 400


def test_a_test_message(alice_web: Client, slack: Slack) -> None:
    alice_web.post(WEBHOOK, {"url": slack.url})
    alice_web.post(TEST)
    text = text_of(alice_web)
    assert "The webhook accepted the test message." in text
    assert ">Delivered<" in text
    assert b"This is a test message from Switchhook." in slack.bodies[0]


def test_a_test_message_that_is_refused(alice_web: Client, slack: Slack) -> None:
    slack.status = 404
    alice_web.post(WEBHOOK, {"url": slack.url})
    alice_web.post(TEST)
    text = text_of(alice_web)
    assert "The webhook did not accept the test message. It responded with HTTP 404." in text
    assert ">Not delivered<" in text


def test_test_messages_are_limited(alice_web: Client, slack: Slack) -> None:
    alice_web.post(WEBHOOK, {"url": slack.url})
    for _ in range(11):
        alice_web.post(TEST)
    assert len(slack.bodies) == 10
    assert "Too many attempts" in text_of(alice_web)


def test_a_test_message_without_a_webhook(alice_web: Client) -> None:
    alice_web.post(TEST)
    assert "Set a webhook first." in text_of(alice_web)


def test_removing_it(alice: Account, alice_web: Client) -> None:
    alice_web.post(WEBHOOK, {"url": URL})
    alice_web.post(REMOVE)
    assert ">Send a test message<" not in text_of(alice_web)
    assert notices.webhook_of(notices.settings_of(alice.pk)) == ""


def test_a_new_webhook_begins_without_the_old_ones_problem(
    alice: Account, alice_web: Client
) -> None:
    NotificationSettings.objects.create(
        account=alice,
        sealed_webhook=b"x",
        webhook_failed_at=timezone.now(),
        webhook_problem="could not be reached",
    )
    text = text_of(alice_web)
    assert "It could not be reached." in text
    assert "No longer readable" in text
    alice_web.post(WEBHOOK, {"url": URL})
    assert "None yet" in text_of(alice_web)


def test_another_account_has_its_own(alice: Account, alice_web: Client, bob_web: Client) -> None:
    alice_web.post(WEBHOOK, {"url": URL})
    assert "hooks.slack.com/…" not in text_of(bob_web)
    bob_web.post(REMOVE)
    assert notices.webhook_of(notices.settings_of(alice.pk)) == URL


def test_strangers_sign_in_and_links_change_nothing(alice_web: Client) -> None:
    for path in (PAGE, EMAILS, WEBHOOK, TEST, REMOVE):
        assert Client().post(path)["Location"].startswith("/login?next=")
    for path in (EMAILS, WEBHOOK, TEST, REMOVE):
        assert alice_web.get(path).status_code == 405
