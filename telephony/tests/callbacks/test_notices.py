"""Messages to a webhook, on real sockets with real workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from aiohttp import web
from django.core import mail
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account
from telephony import notices
from telephony.db import in_database
from telephony.models import Incident, NotificationSettings
from telephony.notices import Event
from telephony.tests.callbacks.conftest import Backend, Names
from telephony.tests.callbacks.test_outbox import no_jobs, work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_jobs")]

__all__ = ["no_jobs"]

CANARY = "services/T0/B0/canaryOfTheWebhook"


@pytest.fixture
def incident(alice: Account) -> Incident:
    now = timezone.now()
    return Incident.objects.create(
        account=alice,
        kind=Incident.Kind.ENDPOINT,
        subject="https://your-backend.com:443",
        facts={
            "endpoint": "https://your-backend.com/end",
            "origin": "https://your-backend.com",
            "result": "500",
            "attempts": 3,
            "waiting": "12",
        },
        began_at=now - timedelta(hours=1),
        last_at=now,
        told_at=now,
    )


@pytest.fixture
def webhook(alice: Account, backend: Backend) -> str:
    url = f"{backend.url}/{CANARY}"
    notices.webhook_set(account=alice, url=url)
    return url


async def tell(incident: Incident) -> None:
    await in_database(notices.tell, incident, Event.FAILED)
    await work()


def _settings() -> NotificationSettings:
    return NotificationSettings.objects.get()


async def stored_settings() -> NotificationSettings:
    return await in_database(_settings)


def _retry_now() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "update procrastinate_jobs set scheduled_at = null where status = 'todo'"
            " and task_name = %s",
            [notices.POST_TASK],
        )
        return cursor.rowcount


@pytest.mark.usefixtures("webhook")
async def test_the_webhook_gets_the_text_of_the_email(incident: Incident, backend: Backend) -> None:
    await tell(incident)
    (received,) = backend.received
    assert received.path == f"/{CANARY}"
    text = json.loads(received.body)["text"]
    assert text.startswith(
        "*Your callbacks to https://your-backend.com are failing*\n\n"
        "https://your-backend.com/end has not accepted a callback since "
    )
    assert "The last time, it responded with HTTP 500.\n\n12 callbacks wait" in text
    stored = await stored_settings()
    assert stored.webhook_posted_at is not None
    assert stored.webhook_problem == ""
    await work("mail")
    assert [each.subject for each in mail.outbox] == [
        "Your callbacks to https://your-backend.com are failing"
    ]
    mail.outbox.clear()


@pytest.mark.usefixtures("webhook")
async def test_a_webhook_that_fails_is_tried_again_and_the_email_is_sent(
    incident: Incident, backend: Backend
) -> None:
    backend.answers(503)
    await tell(incident)
    stored = await stored_settings()
    assert (stored.webhook_problem, stored.webhook_posted_at) == ("responded with HTTP 503", None)
    await work("mail")
    assert len(mail.outbox) == 1
    mail.outbox.clear()
    backend.answers(200)
    assert await in_database(_retry_now) == 1
    await work()
    assert len(backend.received) == 2
    assert (await stored_settings()).webhook_problem == ""


@pytest.mark.usefixtures("webhook")
async def test_a_webhook_that_keeps_failing_is_left_alone(
    incident: Incident, backend: Backend
) -> None:
    backend.answers(404)
    await tell(incident)
    while await in_database(_retry_now):
        await work()
    assert len(backend.received) == 6
    assert (await stored_settings()).webhook_problem == "responded with HTTP 404"


@pytest.mark.usefixtures("webhook")
async def test_a_webhook_that_was_removed_gets_nothing(
    incident: Incident, backend: Backend, alice: Account
) -> None:
    await in_database(notices.tell, incident, Event.FAILED)
    await in_database(lambda: notices.webhook_set(account=alice, url=""))
    await work()
    assert backend.received == []


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize("status", [200, 503])
async def test_how_the_old_webhook_responds_is_not_said_of_the_new_one(
    incident: Incident, backend: Backend, alice: Account, status: int
) -> None:
    new = f"{backend.url}/new"

    async def answer(request: web.Request) -> web.StreamResponse:
        await in_database(lambda: notices.webhook_set(account=alice, url=new))
        return web.Response(status=status)

    backend.answer = answer
    await tell(incident)
    stored = await stored_settings()
    assert await in_database(notices.webhook_of, stored) == new
    assert (stored.webhook_posted_at, stored.webhook_failed_at) == (None, None)
    assert stored.webhook_problem == ""


async def test_it_goes_to_public_addresses_only(
    incident: Incident, alice: Account, names: Names, settings: Settings
) -> None:
    settings.CALLBACK_ALLOW_PRIVATE = False
    names.addresses["hooks.test"] = ["127.0.0.1"]
    await in_database(lambda: notices.webhook_set(account=alice, url="https://hooks.test/x"))
    await tell(incident)
    assert (await in_database(_settings)).webhook_problem == "had no public address"


async def test_the_url_is_nowhere_in_plain_text(
    alice: Account, webhook: str, logged: Callable[[], str], incident: Incident
) -> None:
    await in_database(notices.tell, incident, Event.FAILED)
    assert await in_database(lambda: notices.webhook_test(account=alice)) == ""
    assert CANARY not in logged()
    everything = await in_database(_everything)
    assert alice.id in everything
    assert CANARY not in everything
    assert CANARY.encode().hex() not in everything
    assert notices.masked(webhook).endswith("/…hook")
    assert CANARY not in notices.masked(webhook)


def _everything() -> str:
    """Return what the tables hold that know of the webhook."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select (select string_agg(job::text, '') from procrastinate_jobs job)"
            " || (select string_agg(stored::text, '') from telephony_notificationsettings stored)"
            " || (select string_agg(event::text, '') from accounts_auditevent event)"
        )
        return str(cursor.fetchone()[0])


def test_markup_of_slack_is_escaped() -> None:
    text = notices.slack_text("<!channel> & co", "One\nline\n\nAnother\n")
    assert text == "*&lt;!channel&gt; &amp; co*\n\nOne line\n\nAnother"
