"""What owners are told about callbacks, with a real backend, real workers and real emails.

No test waits an hour: it moves the time at which an endpoint began to fail.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.core import mail
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from accounts.models import Account
from telephony import incidents, notices
from telephony.callbacks import outbox, schedule
from telephony.db import in_database
from telephony.models import (
    Call,
    CallbackDelivery,
    CallbackEndpoint,
    Incident,
    NotificationSettings,
)
from telephony.tests.callbacks.conftest import Backend
from telephony.tests.callbacks.test_outbox import (
    call,
    enqueue,
    new_call,
    no_jobs,
    work,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_jobs")]

__all__ = ["call", "no_jobs"]

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


async def attempt(call: Call) -> None:
    """Make the next attempt of the call's callback, whenever it is due."""
    await in_database(_due_now, call)
    await work()


def _due_now(call: Call) -> None:
    CallbackDelivery.objects.filter(call=call, state="pending").update(due_at=timezone.now())
    with connection.cursor() as cursor:
        cursor.execute("update procrastinate_jobs set scheduled_at = null where status = 'todo'")


async def fail(call: Call, backend: Backend, times: int = 3, status: int = 500) -> None:
    backend.answers(status)
    for _ in range(times):
        await attempt(call)


async def age(by: timedelta = HOUR) -> None:
    """Let the endpoints have failed for longer."""
    await in_database(
        CallbackEndpoint.objects.update,
        failing_since=F("failing_since") - by,
        alert_at=F("alert_at") - by,
    )


async def pass_time(by: timedelta) -> None:
    """Let the owner have been told longer ago."""
    await in_database(Incident.objects.update, told_at=F("told_at") - by)


async def tell() -> list[tuple[str, list[str]]]:
    """Sweep once; return the subjects and recipients of the emails since the last time."""
    await in_database(incidents.tell_of_endpoints)
    return await emails()


async def fail_for_an_hour(call: Call, backend: Backend) -> None:
    """Let the callback of a call fail for so long that its owner is to be told."""
    await enqueue(call)
    await fail(call, backend)
    await age()


async def emails() -> list[tuple[str, list[str]]]:
    await work("mail")
    found = [(each.subject, list(each.to)) for each in mail.outbox]
    mail.outbox.clear()
    return found


def failing(backend: Backend) -> tuple[str, list[str]]:
    return (f"Your callbacks to {backend.url} are failing", ["alice@example.org"])


def recovered(backend: Backend) -> tuple[str, list[str]]:
    return (f"Your callbacks to {backend.url} are delivered again", ["alice@example.org"])


# An endpoint


async def test_an_endpoint_that_fails_for_an_hour_is_told_once(
    call: Call, backend: Backend
) -> None:
    await enqueue(call)
    await fail(call, backend)
    assert await tell() == [], "not before the hour is over"
    await age(HOUR - MINUTE)
    assert await tell() == []
    await age(MINUTE)
    assert await tell() == [failing(backend)]
    await attempt(call)
    await age()
    assert await tell() == []


async def test_two_attempts_are_not_enough(call: Call, backend: Backend) -> None:
    await enqueue(call)
    await fail(call, backend, times=2)
    await age(3 * HOUR)
    assert await tell() == []
    await attempt(call)
    assert await tell() == [failing(backend)]


async def test_the_owner_is_told_when_it_accepts_a_callback_again(
    call: Call, backend: Backend
) -> None:
    await fail_for_an_hour(call, backend)
    assert await tell() == [failing(backend)]
    backend.answers(200)
    await attempt(call)
    assert await emails() == [recovered(backend)]
    assert not await in_database(CallbackEndpoint.objects.exists)
    incident = await in_database(Incident.objects.get)
    assert incident.ended_at is not None


async def test_a_recovery_within_the_hour_is_not_told(call: Call, backend: Backend) -> None:
    await enqueue(call)
    await fail(call, backend)
    backend.answers(200)
    await attempt(call)
    assert await tell() == []
    assert not await in_database(Incident.objects.exists)


async def test_a_backend_that_does_not_respond_fails_as_well(
    call: Call, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "TIMEOUT_SECONDS", 0.5)

    async def never(request: Any) -> Any:
        await asyncio.Event().wait()

    backend.answer = never
    await enqueue(call)
    for _ in range(3):
        await attempt(call)
    await age()
    await in_database(incidents.tell_of_endpoints)
    await work("mail")
    (message,) = mail.outbox
    mail.outbox.clear()
    assert "it did not respond in time" in " ".join(message.body.split())


async def test_one_that_fails_again_and_again_is_told_every_six_hours(
    alice: Account, backend: Backend
) -> None:
    told = []
    for _ in range(2):
        call = await in_database(new_call, alice, backend.url)
        await fail_for_an_hour(call, backend)
        told += await tell()
        backend.answers(200)
        await attempt(call)
        told += await emails()
    assert told == [failing(backend), recovered(backend)]

    call = await in_database(new_call, alice, backend.url)
    await fail_for_an_hour(call, backend)
    assert await tell() == []
    await pass_time(incidents.ENDPOINT_EVERY)
    await age(incidents.ENDPOINT_EVERY)
    assert await tell() == [failing(backend)], "it still fails when the six hours are over"


async def test_a_day_has_a_limit(alice: Account, backend: Backend) -> None:
    """Each call may have its own server."""
    now = timezone.now()
    for number in range(incidents.MOST_A_DAY + 2):
        await in_database(
            CallbackEndpoint.objects.create,
            account=alice,
            origin=f"https://call-{number}.example:443",
            failed_attempts=3,
            failing_since=now - HOUR,
            last_result="500",
            last_url=f"https://call-{number}.example/end",
            alert_at=now,
        )
    assert len(await tell()) == incidents.MOST_A_DAY
    assert await tell() == []
    await pass_time(timedelta(days=1))
    await age(timedelta(days=1))
    assert len(await tell()) == 2


async def test_only_its_owner_is_told(alice: Account, bob: Account, backend: Backend) -> None:
    """Bob uses the same server, which accepts his callbacks."""
    theirs = {
        account: await in_database(new_call, account, backend.url) for account in (alice, bob)
    }
    for each in theirs.values():
        await enqueue(each)
    backend.answers(500)
    for _ in range(3):
        await in_database(_due_now, theirs[alice])
        await outbox.deliver(await in_database(_id_of, theirs[alice]))
    backend.answers(200)
    await outbox.deliver(await in_database(_id_of, theirs[bob]))
    await age()
    assert await tell() == [failing(backend)]


def _id_of(call: Call) -> str:
    return CallbackDelivery.objects.get(call=call).id


async def test_the_email_says_what_fails(call: Call, backend: Backend, alice: Account) -> None:
    call.on_call_end_url = f"{backend.url}/end?token=secret"
    await in_database(Account.objects.filter(pk=alice.pk).update, time_zone="America/New_York")
    await enqueue(call)
    await fail(call, backend, status=503)
    await age()
    endpoint = await in_database(CallbackEndpoint.objects.get)
    await in_database(incidents.tell_of_endpoints)
    await work("mail")
    (message,) = mail.outbox
    mail.outbox.clear()
    text = " ".join(message.body.split())
    since = notices.moment(endpoint.failing_since, "America/New_York")
    assert since.endswith(("EST", "EDT"))
    assert text.startswith(
        f"{backend.url}/end has not accepted a callback since {since}: 3 attempts, none with a 2xx "
        "response. The last time, it responded with HTTP 503. 1 callback waits for this server."
    )
    assert "/dashboard/callbacks" in text
    assert "secret" not in text


async def test_many_workers_tell_once(call: Call, backend: Backend) -> None:
    await fail_for_an_hour(call, backend)
    barrier = Barrier(6, timeout=30)

    def sweep() -> None:
        try:
            barrier.wait()
            incidents.tell_of_endpoints()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(sweep) for _ in range(6)]:
            await asyncio.wrap_future(each)
    assert await emails() == [failing(backend)]
    assert await in_database(Incident.objects.count) == 1


async def test_a_worker_that_dies_before_the_commit_has_told_nothing(
    call: Call, backend: Backend
) -> None:
    await fail_for_an_hour(call, backend)

    def die() -> None:
        with transaction.atomic():
            incidents.tell_of_endpoints()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await in_database(die)
    assert await emails() == []
    assert await tell() == [failing(backend)]


async def test_emails_can_be_turned_off(call: Call, backend: Backend, alice: Account) -> None:
    await in_database(NotificationSettings.objects.create, account=alice, emails_callbacks=False)
    await fail_for_an_hour(call, backend)
    assert await tell() == []


# Callbacks that are given up


async def give_up(call: Call, backend: Backend) -> CallbackDelivery:
    """Make the last attempts of a callback; another call's is accepted before, so nothing fails."""
    await enqueue(call)
    await fail(call, backend, times=len(schedule.RETRY_DELAYS) + 1)
    return await in_database(CallbackDelivery.objects.get, call=call)


def given_up(backend: Backend) -> tuple[str, list[str]]:
    return (f"We gave up on a callback to {backend.url}", ["alice@example.org"])


async def test_a_callback_that_is_given_up_is_told_once_a_day(
    alice: Account, backend: Backend
) -> None:
    told = []
    for _ in range(2):
        call = await in_database(new_call, alice, backend.url)
        assert (await give_up(call, backend)).state == "given-up"
        told += await emails()
    assert told == [given_up(backend)]
    await pass_time(timedelta(days=1))
    await give_up(await in_database(new_call, alice, backend.url), backend)
    assert await emails() == [given_up(backend)]


async def test_who_was_told_of_the_endpoint_is_not_told_of_its_callbacks(
    call: Call, backend: Backend
) -> None:
    await fail_for_an_hour(call, backend)
    assert await tell() == [failing(backend)]
    await fail(call, backend, times=len(schedule.RETRY_DELAYS) - 2)
    assert (await in_database(CallbackDelivery.objects.get, call=call)).state == "given-up"
    assert await emails() == []


async def test_a_backend_that_ends_the_retries_by_mistake_learns_of_it(
    call: Call, backend: Backend
) -> None:
    await enqueue(call)
    await fail(call, backend, times=1, status=410)
    assert (await in_database(CallbackDelivery.objects.get, call=call)).state == "given-up"
    ((subject, _),) = await emails()
    assert subject.startswith("We gave up on a callback")


async def test_the_email_names_the_call(call: Call, backend: Backend) -> None:
    await give_up(call, backend)
    await work("mail")
    (message,) = mail.outbox
    mail.outbox.clear()
    text = " ".join(message.body.split())
    assert "onCallEnd for this call after 8 attempts" in text
    assert f"/dashboard/calls/{call.id}" in text
    assert f"The last time, {backend.url}/end responded with HTTP 500." in text


# What is forgotten


async def test_an_endpoint_that_is_not_used_any_more_is_forgotten(
    call: Call, backend: Backend
) -> None:
    await fail_for_an_hour(call, backend)
    await tell()
    await in_database(incidents.forget)
    assert await in_database(CallbackEndpoint.objects.count) == 1
    week = timezone.now() - incidents.STALE_AFTER
    await in_database(CallbackEndpoint.objects.update, failed_at=week)
    await in_database(incidents.forget)
    assert not await in_database(CallbackEndpoint.objects.exists)
    assert await in_database(Incident.objects.exclude(ended_at=None).count) == 1
    assert await emails() == [], "nothing is known to have recovered"
    await in_database(Incident.objects.update, last_at=timezone.now() - incidents.KEPT_FOR)
    await in_database(incidents.forget)
    assert not await in_database(Incident.objects.exists)
