"""Sending everything that waits for an endpoint, with a real backend and real workers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from telephony.callbacks import early, outbox
from telephony.callbacks.origins import origin_of
from telephony.db import in_database
from telephony.models import CallbackDelivery, CallbackEndpoint
from telephony.tests.callbacks.conftest import Backend
from telephony.tests.callbacks.test_outbox import enqueue, new_call, no_jobs, work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_jobs")]

__all__ = ["no_jobs"]


async def fill(account: Account, url: str, count: int) -> None:
    """Let callbacks wait for their next attempt, each at another time."""
    for _ in range(count):
        await enqueue(await in_database(new_call, account, url))
    await in_database(_let_wait, url)


def _let_wait(url: str) -> None:
    waiting = CallbackDelivery.objects.filter(state="pending", url__startswith=url)
    for number, delivery in enumerate(waiting):
        due_at = timezone.now() + timedelta(hours=1 + number)
        CallbackDelivery.objects.filter(pk=delivery.pk).update(due_at=due_at, attempts=1)
    _forget_jobs()


def _forget_jobs() -> None:
    with connection.cursor() as cursor:
        cursor.execute("delete from procrastinate_jobs")


async def send_all(account: Account, url: str) -> bool:
    return await in_database(early.send_all, account, origin_of(url))


async def work_on() -> None:
    """Run workers until no step is left, without waiting for the next one."""
    for _ in range(50):
        await work("upkeep", "callbacks")
        if not await in_database(_hurry):
            return
    raise AssertionError("the chain does not end")


def _hurry() -> bool:
    """Make the next step due; return False if there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update procrastinate_jobs set scheduled_at = null"
            " where status = 'todo' and task_name = %s",
            [early.TASK],
        )
        return cursor.rowcount > 0


async def states(account: Account) -> list[str]:
    found = CallbackDelivery.objects.of(account).order_by("id")
    return await in_database(lambda: list(found.values_list("state", flat=True)))


async def test_all_are_sent(
    alice: Account, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early, "BATCH", 3)
    await fill(alice, backend.url, 8)
    assert await send_all(alice, backend.url)
    await work_on()
    assert await states(alice) == ["delivered"] * 8
    assert len(backend.received) == 8


async def test_only_those_of_the_account_and_the_endpoint_are_sent(
    alice: Account, bob: Account, backend: Backend
) -> None:
    elsewhere = backend.url.replace("127.0.0.1", "localhost")
    await fill(alice, backend.url, 1)
    await fill(alice, elsewhere, 1)
    await fill(bob, backend.url, 1)
    assert await send_all(alice, backend.url)
    await work_on()
    assert await states(alice) == ["delivered", "pending"]
    assert await states(bob) == ["pending"]


async def test_a_chain_that_waits_for_long_looks_seldom(alice: Account, backend: Backend) -> None:
    """Each look is a job, and an account may have a chain for each of thousands of endpoints."""
    await fill(alice, backend.url, 1)
    assert await send_all(alice, backend.url)
    await in_database(CallbackDelivery.objects.update, due_at=timezone.now() - timedelta(hours=1))
    await work("upkeep")
    (at,) = await in_database(_next_looks)
    assert timedelta(seconds=50) < at - timezone.now() <= timedelta(minutes=1)


def _next_looks() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select scheduled_at from procrastinate_jobs where status = 'todo' and task_name = %s",
            [early.TASK],
        )
        return [at for (at,) in cursor.fetchall()]


async def test_an_endpoint_that_still_fails_gets_one_batch(
    alice: Account, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early, "BATCH", 3)
    await fill(alice, backend.url, 8)
    await in_database(
        CallbackEndpoint.objects.create,
        account=alice,
        origin=origin_of(backend.url),
        failed_attempts=8,
        failing_since=timezone.now() - timedelta(hours=1),
    )
    before = await in_database(_schedule, alice)
    backend.answers(500)
    assert await send_all(alice, backend.url)
    await work_on()
    assert len(backend.received) == 3
    assert await in_database(_schedule, alice) == before, "the schedule goes on as before"


def _schedule(account: Account) -> dict[str, Any]:
    return dict(CallbackDelivery.objects.of(account).values_list("id", "due_at"))


async def test_one_that_is_not_accepted_does_not_stop_the_others(
    alice: Account, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not sent again and again either, even if the backend asks to wait."""
    monkeypatch.setattr(early, "BATCH", 2)
    await fill(alice, backend.url, 5)
    refused = await in_database(
        CallbackDelivery.objects.order_by("due_at").values_list("id", flat=True).first
    )

    async def answer(request: web.Request) -> web.Response:
        is_refused = request.headers["webhook-id"] == f"msg_{refused}"
        headers = {"Retry-After": "86400"} if is_refused else {}
        return web.Response(status=500 if is_refused else 200, headers=headers)

    backend.answer = answer
    assert await send_all(alice, backend.url)
    await work_on()
    assert sorted(await states(alice)) == ["delivered"] * 4 + ["pending"]
    assert len(backend.received) == 5


@pytest.fixture
async def silent(alice: Account, backend: Backend) -> CallbackEndpoint:
    """A backend that hung, with callbacks that are held back and one that waits for its time."""
    await fill(alice, backend.url, 5)
    return await in_database(_silence, alice, backend.url)


def _silence(account: Account, url: str) -> CallbackEndpoint:
    now = timezone.now()
    endpoint = CallbackEndpoint.objects.create(
        account=account,
        origin=origin_of(url),
        failures=5,
        failed_attempts=5,
        failing_since=now - timedelta(hours=1),
        failed_at=now - timedelta(minutes=4),
        probe_at=now + timedelta(minutes=5),
    )
    held = CallbackDelivery.objects.order_by("due_at").values("pk")[:4]
    CallbackDelivery.objects.filter(pk__in=held).update(held_by=endpoint, due_at=now)
    return endpoint


async def test_an_endpoint_that_is_back_gets_what_was_held_back_and_the_rest(
    silent: CallbackEndpoint, alice: Account, backend: Backend
) -> None:
    assert await send_all(alice, backend.url)
    await work_on()
    assert await states(alice) == ["delivered"] * 5


@pytest.fixture
def hangs(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend hangs still."""

    async def never(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    monkeypatch.setattr(outbox, "TIMEOUT_SECONDS", 1.0)
    backend.answer = never


@pytest.mark.usefixtures("hangs")
async def test_an_endpoint_that_still_hangs_gets_one_probe(
    silent: CallbackEndpoint, alice: Account, backend: Backend
) -> None:
    assert await send_all(alice, backend.url)
    await work_on()
    assert len(backend.received) == 1
    assert await states(alice) == ["pending"] * 5


@pytest.mark.usefixtures("hangs")
async def test_an_endpoint_that_hangs_and_holds_nothing_gets_one(
    silent: CallbackEndpoint, alice: Account, backend: Backend
) -> None:
    await in_database(_let_wait, backend.url)
    await in_database(CallbackDelivery.objects.update, held_by=None)
    assert await send_all(alice, backend.url)
    await work_on()
    assert len(backend.received) == 1


async def test_two_requests_make_one_chain(alice: Account, backend: Backend) -> None:
    await fill(alice, backend.url, 2)
    assert await send_all(alice, backend.url)
    assert await send_all(alice, backend.url)
    await work_on()
    assert len(backend.received) == 2


async def test_nothing_waits(alice: Account, backend: Backend) -> None:
    assert not await send_all(alice, backend.url)
    await enqueue(await in_database(new_call, alice, backend.url))
    await work()
    assert not await send_all(alice, backend.url), "it was delivered"
