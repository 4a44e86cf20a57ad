"""Deliveries, with real jobs, real workers and a real backend.

No test waits for a retry: it moves the delivery's time and its job's time to now.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from threading import Barrier, Event
from typing import Any

import pytest
from aiohttp import web
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.exceptions import TaskNotFound
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import Account, WebhookSecret
from core.errors import ApiError
from core.tests.waiting import until
from telephony.callbacks import attempts, endpoints, outbox, schedule
from telephony.callbacks.attempts import Failure, Result
from telephony.db import in_database
from telephony.models import Call, CallbackAttempt, CallbackDelivery, CallbackEndpoint
from telephony.tasks import forget_callback_attempts
from telephony.tests.callbacks.conftest import OLD_SECRET, SECRET, Backend
from telephony.tests.test_db import take_every_connection

BODY = {"callSid": "CA1", "transcript": [{"role": "user", "text": "my canary is yellow"}]}
SENT = json.dumps(BODY, separators=(",", ":")).encode()

pytestmark = pytest.mark.django_db(transaction=True)

_sids = itertools.count(1)


@pytest.fixture(autouse=True)
def no_jobs(transactional_db: None) -> None:
    """Empty the tables of the queue: they are not Django's, so Django does not."""
    with connection.cursor() as cursor:
        cursor.execute("truncate procrastinate_jobs, procrastinate_workers cascade")


@pytest.fixture
def call(alice: Account, backend: Backend) -> Call:
    return new_call(alice, backend.url)


def new_call(account: Account, url: str) -> Call:
    return Call.objects.create(
        account=account,
        call_sid=f"CA{next(_sids):032x}",
        direction=Call.Direction.INBOUND,
        status=Call.Status.COMPLETED,
        caller_phone="+19805551234",
        called_number="+15551234567",
        on_call_start_url=f"{url}/start",
        on_call_end_url=f"{url}/end",
        on_error_url=f"{url}/error",
    )


def _set_secrets(account: Account, *secrets: str) -> None:
    stored = WebhookSecret.objects.get(account=account)
    for secret in secrets:
        stored.rotate(secret, timezone.now())
    stored.save()


async def enqueue(call: Call) -> None:
    await in_database(outbox.enqueue_call_end, call, BODY)


def _delivery(call: Call) -> CallbackDelivery:
    return CallbackDelivery.objects.get(call=call)


def _claim(delivery_id: str) -> Any:
    (attempt,) = outbox._decide([outbox.Claim(delivery_id)], waits=True)
    return attempt


def _record(attempt: Any, result: Result) -> None:
    outbox._decide([outbox.Record(attempt, result)], waits=True)


async def delivery_of(call: Call) -> CallbackDelivery:
    return await in_database(_delivery, call)


def _jobs(status: str = "todo") -> list[tuple[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select args ->> 'delivery_id', scheduled_at from procrastinate_jobs"
            " where task_name = %s and status = %s order by id",
            [outbox.TASK, status],
        )
        return list(cursor.fetchall())


async def jobs(status: str = "todo") -> list[tuple[str, Any]]:
    return await in_database(_jobs, status)


def _bring_forward() -> None:
    CallbackDelivery.objects.filter(state="pending").update(due_at=timezone.now())
    with connection.cursor() as cursor:
        cursor.execute("update procrastinate_jobs set scheduled_at = null where status = 'todo'")


def _is_idle(queues: list[str]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "select not exists (select from procrastinate_jobs where queue_name = any(%s)"
            " and status = 'todo' and (scheduled_at is null or scheduled_at <= now()))",
            [queues],
        )
        return bool(cursor.fetchone()[0])


@asynccontextmanager
async def _worker_app() -> AsyncIterator[None]:
    """Give procrastinate its own connections, as in a worker."""
    with app.replace_connector(app.connector.get_worker_connector()):
        async with app.open_async():
            yield


async def work(*queues: str) -> None:
    """Run a worker until no job is due in these queues; without names, in that of callbacks."""
    names = list(queues or ("callbacks",))
    async with _worker_app():
        while not await in_database(_is_idle, names):
            await app.run_worker_async(
                queues=names,
                wait=False,
                concurrency=10,
                install_signal_handlers=False,
                listen_notify=False,
            )


async def test_on_call_end_is_delivered(call: Call, backend: Backend) -> None:
    await enqueue(call)
    await work()
    (received,) = backend.received
    delivery = await delivery_of(call)
    assert received.path == "/end"
    assert received.body == SENT
    assert received.headers["webhook-id"] == f"msg_{delivery.id}"
    assert delivery.state == "delivered"
    assert delivery.attempts == 1
    assert delivery.last_result == "200"
    assert delivery.sealed_body is None
    assert delivery.claimed_until is None
    assert delivery.ended_at is not None
    assert await jobs() == []


async def test_on_error_is_delivered(call: Call, backend: Backend) -> None:
    await in_database(outbox.enqueue_error, call, code="engine_lost", message="It stopped.")
    await in_database(outbox.enqueue_error, call, code="engine_lost", message="It stopped.")
    await work()
    assert [received.path for received in backend.received] == ["/error", "/error"]
    body = json.loads(backend.received[0].body)
    assert (body["callSid"], body["code"], body["message"]) == (
        call.call_sid,
        "engine_lost",
        "It stopped.",
    )


async def test_on_error_is_not_queued_without_a_url(call: Call) -> None:
    call.on_error_url = ""
    await in_database(outbox.enqueue_error, call, code="engine_lost", message="It stopped.")
    assert not await in_database(CallbackDelivery.objects.exists)
    assert await jobs() == []


# Enqueueing


def _enqueue_and_fail(call: Call) -> None:
    with transaction.atomic():
        outbox.enqueue_call_end(call, BODY)
        outbox.enqueue_error(call, code="engine_lost", message="It stopped.")
        raise LookupError


async def test_a_transaction_that_fails_leaves_no_job(call: Call) -> None:
    with pytest.raises(LookupError):
        await in_database(_enqueue_and_fail, call)
    assert not await in_database(CallbackDelivery.objects.exists)
    assert await jobs() == []


async def test_a_transaction_that_fails_in_a_worker_leaves_no_job(call: Call) -> None:
    """In a worker, procrastinate has its own connections."""
    async with _worker_app():
        with pytest.raises(LookupError):
            await in_database(_enqueue_and_fail, call)
    assert await jobs() == []


def test_a_call_has_one_on_call_end(call: Call) -> None:
    outbox.enqueue_call_end(call, BODY)
    outbox.enqueue_call_end(call, BODY | {"durationSeconds": 7})
    assert len(_jobs()) == CallbackDelivery.objects.count() == 1


def test_a_call_that_two_threads_end_has_one_on_call_end(call: Call) -> None:
    barrier = Barrier(2, timeout=30)

    def end() -> None:
        try:
            with transaction.atomic():
                barrier.wait()
                outbox.enqueue_call_end(call, BODY)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for ending in [pool.submit(end), pool.submit(end)]:
            ending.result()
    assert len(_jobs()) == CallbackDelivery.objects.count() == 1


# Signatures


async def test_both_signatures_are_valid(call: Call, backend: Backend, alice: Account) -> None:
    await in_database(_set_secrets, alice, SECRET)
    await enqueue(call)
    await work()
    (received,) = backend.received
    Webhook(SECRET).verify(received.body, dict(received.headers))
    by_hand = hmac.new(SECRET.encode(), SENT, hashlib.sha256).hexdigest()
    assert received.headers["X-Veevo-Signature"] == by_hand


async def test_a_rotated_secret_signs_for_another_day(
    call: Call, backend: Backend, alice: Account
) -> None:
    await enqueue(call)
    await in_database(_set_secrets, alice, OLD_SECRET, SECRET)
    backend.answers(503)
    await work()
    yesterday = timezone.now() - timedelta(hours=25)
    await in_database(WebhookSecret.objects.filter(account=alice).update, rotated_at=yesterday)
    await in_database(_bring_forward)
    await work()
    first, second = backend.received
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(first.body, dict(first.headers))
    Webhook(SECRET).verify(second.body, dict(second.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD_SECRET).verify(second.body, dict(second.headers))


async def test_each_account_signs_with_its_own_secret(
    call: Call, backend: Backend, alice: Account, bob: Account
) -> None:
    await in_database(_set_secrets, alice, SECRET)
    bobs = await in_database(new_call, bob, backend.url)
    await in_database(outbox.enqueue_call_end, bobs, {"callSid": "bob"})
    before = await delivery_of(bobs)
    await enqueue(call)
    await outbox.deliver((await delivery_of(call)).id)
    (received,) = backend.received
    Webhook(SECRET).verify(received.body, dict(received.headers))
    assert await delivery_of(bobs) == before
    assert (await delivery_of(bobs)).state == "pending"


# Retries


async def test_retries_follow_the_schedule(
    call: Call, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = [5, 300, 1800, 7200, 18000, 36000, 36000]
    backend.answers(503)
    await enqueue(call)
    for count, delay in enumerate(seconds, start=1):
        before = timezone.now()
        await work()
        after = timezone.now()
        delivery = await delivery_of(call)
        assert (delivery.state, delivery.attempts) == ("pending", count)
        assert delivery.last_result == "503"
        assert await jobs() == [(delivery.id, delivery.due_at)]
        assert before + timedelta(seconds=delay) <= delivery.due_at
        assert delivery.due_at <= after + timedelta(seconds=delay * 1.1)
        await in_database(_bring_forward)
    await work()
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.attempts) == ("given-up", 8)
    assert delivery.sealed_body is None
    assert delivery.ended_at is not None
    assert await jobs() == []
    assert {received.headers["webhook-id"] for received in backend.received} == {
        f"msg_{delivery.id}"
    }
    assert {received.body for received in backend.received} == {SENT}
    assert len(backend.received) == 8
    assert [event for event in _events(caplog) if event["event"] == "callback_given_up"] == [
        {
            "event": "callback_given_up",
            "delivery_id": delivery.id,
            "account_id": call.account_id,
            "call_id": call.id,
            "call_sid": call.call_sid,
            "kind": "onCallEnd",
            "attempts": 8,
            "last_result": "503",
        }
    ]


def _events(caplog: pytest.LogCaptureFixture) -> Iterator[dict[str, Any]]:
    """Yield structured log events, without the fields that they all have."""
    common = ("level", "logger", "timestamp")
    for record in caplog.records:
        if isinstance(record.msg, dict):
            yield {name: value for name, value in record.msg.items() if name not in common}


@pytest.mark.parametrize("status", [301, 307, 400, 404, 429, 500])
async def test_error_statuses_and_redirects_are_retried(
    call: Call, backend: Backend, status: int
) -> None:
    backend.answers(status, Location="/elsewhere")
    await enqueue(call)
    await work()
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.last_result) == ("pending", str(status))
    backend.answers(204)
    await in_database(_bring_forward)
    await work()
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.last_result, delivery.attempts) == ("delivered", "204", 2)
    assert [received.path for received in backend.received] == ["/end", "/end"]


async def test_status_410_ends_the_retries(call: Call, backend: Backend) -> None:
    backend.answers(410)
    await enqueue(call)
    await work()
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.attempts, delivery.last_result) == ("given-up", 1, "410")
    assert delivery.sealed_body is None
    assert await jobs() == []


async def test_a_backend_that_does_not_respond_is_retried(
    call: Call, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "TIMEOUT_SECONDS", 0.1)
    backend.answer = _never
    await enqueue(call)
    await work()
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.last_result) == ("pending", "timeout")


async def _never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def test_an_unreachable_backend_is_retried(call: Call) -> None:
    call.on_call_end_url = "http://127.0.0.1:1/"
    await enqueue(call)
    await work()
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.last_result) == ("pending", "unreachable")


async def test_retry_after_extends_the_wait(call: Call, backend: Backend) -> None:
    backend.answers(503, **{"Retry-After": "3600"})
    await enqueue(call)
    before = timezone.now()
    await work()
    delivery = await delivery_of(call)
    assert delivery.due_at >= before + timedelta(hours=1)
    assert await jobs() == [(delivery.id, delivery.due_at)]


async def test_a_body_that_cannot_be_unsealed_waits_for_the_key(
    call: Call, backend: Backend, settings: Any
) -> None:
    await enqueue(call)
    key, settings.SECRET_KEY = settings.SECRET_KEY, "x" * 50
    await work()
    assert (await delivery_of(call)).last_result == "cannot be unsealed"
    assert backend.received == []
    settings.SECRET_KEY_FALLBACKS = [key]
    await in_database(_bring_forward)
    await work()
    assert (await delivery_of(call)).state == "delivered"


# Jobs that run twice, early, late or never


async def test_two_simultaneous_jobs_send_once(call: Call, backend: Backend) -> None:
    release = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.json_response({})

    backend.answer = answer
    await enqueue(call)
    delivery = await delivery_of(call)
    first = asyncio.ensure_future(outbox.deliver(delivery.id))
    await until(lambda: backend.received)
    await asyncio.gather(*(outbox.deliver(delivery.id) for _ in range(5)))
    release.set()
    await first
    await outbox.deliver(delivery.id)
    assert len(backend.received) == 1
    assert (await delivery_of(call)).attempts == 1


async def test_an_early_job_sends_nothing(call: Call, backend: Backend) -> None:
    backend.answers(503)
    await enqueue(call)
    await work()
    await outbox.deliver((await delivery_of(call)).id)
    assert len(backend.received) == 1


async def test_a_job_for_a_deleted_delivery_does_nothing(backend: Backend) -> None:
    await outbox.deliver("c" + "0" * 24)
    assert backend.received == []


def _age(**fields: timedelta) -> None:
    """Set times of all deliveries to the given time before now."""
    now = timezone.now()
    CallbackDelivery.objects.update(**{name: now - age for name, age in fields.items()})


@pytest.mark.parametrize("dies_after", ["claim", "send"])
async def test_a_delivery_is_sent_again_after_its_worker_dies(
    call: Call, backend: Backend, dies_after: str
) -> None:
    await enqueue(call)
    delivery = await delivery_of(call)
    attempt = await in_database(_claim, delivery.id)
    assert attempt is not None
    if dies_after == "send":
        await outbox._send(attempt)
    await in_database(_jobs_are_lost)

    await in_database(outbox.resume)
    assert await jobs() == [], "the claim is still good"
    await in_database(_age, due_at=timedelta(minutes=2), claimed_until=timedelta(0))
    await in_database(outbox.resume)
    await work()
    assert (await delivery_of(call)).state == "delivered"
    assert len(backend.received) == (2 if dies_after == "send" else 1)
    assert {received.headers["webhook-id"] for received in backend.received} == {
        f"msg_{delivery.id}"
    }


async def test_the_job_of_a_dead_worker_runs_again_when_its_claim_expires(
    call: Call, backend: Backend
) -> None:
    """Other workers run the job again, before or after its claim expires."""
    await enqueue(call)
    delivery = await delivery_of(call)
    dead = await in_database(_claim, delivery.id)
    await work()
    assert backend.received == [], "the worker may be alive"
    assert await jobs() == [(delivery.id, dead.claimed_until)]

    await outbox.deliver(delivery.id)
    assert len(await jobs()) == 1

    await in_database(_age, claimed_until=timedelta(0))
    await in_database(_bring_forward)
    await work()
    assert len(backend.received) == 1
    assert (await delivery_of(call)).state == "delivered"


async def test_an_attempt_that_might_outlast_its_claim_does_not_begin(
    call: Call, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was slow, so another worker may take over before the attempt ends."""
    monkeypatch.setattr(outbox, "CLAIM", timedelta(seconds=outbox.TIMEOUT_SECONDS))
    await enqueue(call)
    await in_database(_jobs_are_lost)
    delivery = await delivery_of(call)
    await outbox.deliver(delivery.id)
    assert backend.received == []
    assert await jobs() == [(delivery.id, (await delivery_of(call)).claimed_until)]


def test_a_claim_begins_when_it_is_made(call: Call) -> None:
    """The transaction may have waited for the account's lock before."""
    outbox.enqueue_call_end(call, BODY)
    with transaction.atomic(), connection.cursor() as cursor:
        attempt = _claim(_delivery(call).id)
        cursor.execute("select %s > now() + %s", [attempt.claimed_until, outbox.CLAIM])
        assert cursor.fetchone() == (True,)


def _jobs_are_lost() -> None:
    with connection.cursor() as cursor:
        cursor.execute("delete from procrastinate_jobs")


async def test_the_record_and_the_next_job_commit_together(
    call: Call, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.answers(503)
    await enqueue(call)
    delivery = await delivery_of(call)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "TASK", "no.such.task")
        with pytest.raises(TaskNotFound):
            await outbox.deliver(delivery.id)
    assert (await delivery_of(call)).attempts == 0

    await in_database(_age, claimed_until=timedelta(0))
    await work()
    assert (await delivery_of(call)).attempts == 1
    assert len(await jobs()) == 1


async def test_of_an_overtaken_attempt_only_success_counts(call: Call, backend: Backend) -> None:
    """Its failure does not count, since the other attempt does. Its success counts."""
    await enqueue(call)
    delivery = await delivery_of(call)
    slow = await in_database(_claim, delivery.id)
    await in_database(_age, claimed_until=timedelta(0))
    quick = await in_database(_claim, delivery.id)
    assert slow is not None
    assert quick is not None
    await in_database(_record, slow, Result("timeout"))
    assert (await delivery_of(call)).attempts == 0
    await in_database(_record, slow, Result("200", delivered=True))
    assert (await delivery_of(call)).state == "delivered"
    await in_database(_record, quick, Result("503"))
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.attempts, delivery.last_result) == ("delivered", 1, "200")


async def test_resume_queues_one_overdue_delivery_of_each_account(
    call: Call, backend: Backend, alice: Account, bob: Account
) -> None:
    await enqueue(call)
    for account in (alice, bob):
        await enqueue(await in_database(new_call, account, backend.url))
    await in_database(_jobs_are_lost)
    await in_database(outbox.resume)
    assert await jobs() == [], "none is overdue"

    await in_database(_age, due_at=timedelta(minutes=2))
    await in_database(outbox.resume)
    assert len(await jobs()) == 2
    await work()
    assert len(backend.received) == 3, "the one that was woken up wakes up the next"
    await in_database(_age, due_at=timedelta(minutes=2))
    await in_database(outbox.resume)
    assert await jobs() == [], "all are delivered"


# Fairness


@asynccontextmanager
async def worker(concurrency: int) -> AsyncIterator[None]:
    """Run a worker as in production, until the end of the block."""
    async with _worker_app():
        running = asyncio.ensure_future(
            app.run_worker_async(
                queues=["callbacks"], concurrency=concurrency, install_signal_handlers=False
            )
        )
        yield
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def pool(alice: Account, bob: Account) -> Any:
    """Return the pool once all its connections are idle."""
    connection.close()
    return connection.pool


async def test_a_slow_backend_leaves_workers_and_connections_for_other_accounts(
    alice: Account, bob: Account, backend: Backend, pool: Any
) -> None:
    release = asyncio.Event()
    under_way, most_under_way = 0, 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal under_way, most_under_way
        if request.path == "/alice/end":
            under_way += 1
            most_under_way = max(most_under_way, under_way)
            await release.wait()
            under_way -= 1
        return web.json_response({})

    def received(path: str) -> int:
        return sum(received.path == path for received in backend.received)

    backend.answer = answer
    async with worker(concurrency=outbox.UNDER_WAY_PER_ACCOUNT + 1):
        for _ in range(20):
            await enqueue(await in_database(new_call, alice, f"{backend.url}/alice"))
        await until(lambda: under_way == outbox.UNDER_WAY_PER_ACCOUNT)
        for _ in range(5):
            await enqueue(await in_database(new_call, bob, f"{backend.url}/bob"))
        await until(lambda: received("/bob/end") == 5)
        assert received("/alice/end") == outbox.UNDER_WAY_PER_ACCOUNT
        take_every_connection(pool)

        release.set()
        await until(lambda: received("/alice/end") == 20)
    assert most_under_way == outbox.UNDER_WAY_PER_ACCOUNT
    assert not await in_database(CallbackDelivery.objects.exclude(state="delivered").exists)


def test_the_limit_holds_when_all_claim_at_once(alice: Account) -> None:
    together = 2 * outbox.UNDER_WAY_PER_ACCOUNT
    for _ in range(together):
        outbox.enqueue_call_end(new_call(alice, "http://127.0.0.1:1"), BODY)
    ids = list(CallbackDelivery.objects.values_list("id", flat=True))
    barrier = Barrier(together, timeout=30)

    def claim(delivery_id: str) -> bool:
        connection.ensure_connection()
        try:
            barrier.wait()
            return _claim(delivery_id) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(together) as threads:
        claims = list(threads.map(claim, ids))
    assert sum(claims) == outbox.UNDER_WAY_PER_ACCOUNT


async def test_all_slots_are_filled_again_when_many_attempts_end_together(
    alice: Account, backend: Backend
) -> None:
    """If each attempt queued only the next delivery, all would queue the same one."""
    inside: list[asyncio.Event] = []
    rounds = 4

    async def answer(request: web.Request) -> web.StreamResponse:
        inside.append(release := asyncio.Event())
        await release.wait()
        return web.json_response({})

    backend.answer = answer
    most = outbox.UNDER_WAY_PER_ACCOUNT
    for _ in range(rounds * most):
        await enqueue(await in_database(new_call, alice, backend.url))
    async with worker(concurrency=rounds * most):
        for number in range(1, rounds + 1):
            await until(lambda number=number: len(inside) == number * most)
            for release in inside:
                release.set()
        await until(lambda: in_database(_none_is_pending))
    assert len(backend.received) == rounds * most


def _none_is_pending() -> bool:
    return not CallbackDelivery.objects.filter(state="pending").exists()


async def test_a_locked_account_does_not_delay_others(
    call: Call, bob: Account, backend: Backend, alice: Account
) -> None:
    await enqueue(call)
    bobs = await in_database(new_call, bob, f"{backend.url}/bob")
    await enqueue(bobs)
    ids = [(await delivery_of(each)).id for each in (call, bobs)]
    locked, release = Event(), Event()
    holding = asyncio.ensure_future(in_database(_hold_lock, alice, locked, release))
    assert await asyncio.to_thread(locked.wait, 30)
    delivering = [asyncio.ensure_future(outbox.deliver(id)) for id in ids]
    await delivering[1]
    assert [received.path for received in backend.received] == ["/bob/end"]
    release.set()
    await asyncio.gather(holding, *delivering)
    assert len(backend.received) == 2


async def test_the_wait_for_a_locked_account_has_a_limit(
    call: Call, backend: Backend, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_DECIDED_WITHIN_S", 0.5)
    await enqueue(call)
    delivery = await delivery_of(call)
    locked, release = Event(), Event()
    holding = asyncio.ensure_future(in_database(_hold_lock, alice, locked, release))
    assert await asyncio.to_thread(locked.wait, 30)
    try:
        with pytest.raises(OperationalError):
            await asyncio.wait_for(outbox.deliver(delivery.id), 5)
    finally:
        release.set()
        await holding
    await outbox.deliver(delivery.id)
    assert len(backend.received) == 1


def _hold_lock(account: Account, locked: Event, release: Event) -> None:
    with transaction.atomic():
        outbox.lock(account.id)
        locked.set()
        assert release.wait(30)


async def test_the_wait_for_a_hanging_database_has_a_limit(
    call: Call, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_DECIDED_WITHIN_S", 0.5)
    await enqueue(call)
    delivery = await delivery_of(call)
    hangs, release = Event(), Event()

    def hang() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("lock table telephony_callbackdelivery in access exclusive mode")
            hangs.set()
            assert release.wait(30)

    hanging = asyncio.ensure_future(in_database(hang))
    assert await asyncio.to_thread(hangs.wait, 30)
    with pytest.raises(OperationalError):
        await outbox.deliver(delivery.id)
    release.set()
    await hanging
    await outbox.deliver(delivery.id)
    assert len(backend.received) == 1


# Endpoints that do not respond


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first retry is due in an hour, and so not while a test runs."""
    delays = (timedelta(hours=1), *schedule.RETRY_DELAYS[1:])
    monkeypatch.setattr(schedule, "RETRY_DELAYS", delays)


@pytest.fixture
async def failing(
    later: None, alice: Account, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> list[CallbackDelivery]:
    """Alice's deliveries to a backend that hangs: two that are held back, after four others."""
    # Enough for a request to arrive, even on a busy machine.
    monkeypatch.setattr(outbox, "TIMEOUT_SECONDS", 1.5)
    backend.answer = _never
    for _ in range(outbox.UNDER_WAY_PER_ACCOUNT):
        await enqueue(await in_database(new_call, alice, backend.url))
    under_way = [await in_database(_claim, id) for id, _ in await jobs()]
    results = await asyncio.gather(*map(outbox._send, under_way))
    for attempt, result in zip(under_way, results, strict=True):
        await in_database(_record, attempt, result)
    for _ in range(2):
        await enqueue(await in_database(new_call, alice, backend.url))
    await work()
    assert len(backend.received) == outbox.UNDER_WAY_PER_ACCOUNT
    backend.received.clear()
    return await in_database(lambda: list(CallbackDelivery.objects.order_by("attempts", "id")))


async def test_deliveries_to_a_failing_endpoint_are_held_back(
    failing: list[CallbackDelivery], backend: Backend
) -> None:
    held, sent = failing[:2], failing[2:]
    assert [(each.attempts, each.last_result) for each in held] == [(0, "endpoint_failing")] * 2
    assert [(each.attempts, each.last_result) for each in sent] == [(1, "timeout")] * 4
    endpoint = await in_database(CallbackEndpoint.objects.get)
    assert (endpoint.origin, endpoint.failures) == (backend.url, 4)

    await in_database(_bring_forward)
    await in_database(_put_off_probe)
    await work()
    assert backend.received == []
    for each in await in_database(lambda: list(CallbackDelivery.objects.with_attempts())):
        assert (each.state, each.last_result, each.held_by) == (
            "pending",
            "endpoint_failing",
            endpoint,
        )
        assert each.next_attempt_at == each.held_by.probe_at
        assert each.attempts == len(each.attempt_list.all()), "being held back is no attempt"


def _put_off_probe(by: timedelta = timedelta(hours=1)) -> None:
    CallbackEndpoint.objects.update(probe_at=timezone.now() + by)


def _probe_now() -> None:
    _put_off_probe(timedelta(0))
    with connection.cursor() as cursor:
        cursor.execute(
            "update procrastinate_jobs set scheduled_at = null"
            " where status = 'todo' and task_name = %s",
            [endpoints.PROBE_TASK],
        )


async def test_one_delivery_is_the_probe(failing: list[CallbackDelivery], backend: Backend) -> None:
    for failures, seconds in ((5, 120), (6, 240), (7, 300), (8, 300)):
        if failures == 7:
            await in_database(_hold_all)
        await in_database(_probe_now)
        before = timezone.now()
        await work()
        assert len(backend.received) == failures - 4
        endpoint = await in_database(CallbackEndpoint.objects.get)
        assert endpoint.failures == failures
        assert before + timedelta(seconds=seconds) <= endpoint.probe_at
        assert endpoint.probe_at <= timezone.now() + timedelta(seconds=seconds)
    attempts = await in_database(
        lambda: list(CallbackDelivery.objects.order_by("attempts").values_list("attempts"))
    )
    assert sum(count for (count,) in attempts) == 8
    assert attempts[-1] <= (2,), "each keeps to its own schedule"


def _hold_all() -> None:
    """Hold back the other deliveries, which have become due."""
    CallbackDelivery.objects.update(due_at=timezone.now(), held_by=CallbackEndpoint.objects.get())


@pytest.mark.parametrize("status", [200, 500])
async def test_the_first_response_releases_all_deliveries(
    failing: list[CallbackDelivery], backend: Backend, status: int
) -> None:
    backend.answers(status)
    await in_database(_probe_now)
    await work()
    assert len(backend.received) == 2, "those that were held back"
    left = await in_database(
        lambda: list(CallbackEndpoint.objects.values_list("failures", "failed_attempts"))
    )
    assert left == ([] if status == 200 else [(0, 6)]), "with 500 it fails, but responds"
    results = await in_database(
        lambda: sorted(CallbackDelivery.objects.values_list("last_result", flat=True))
    )
    assert results == [str(status)] * 2 + ["timeout"] * 4


async def test_each_response_releases_more_deliveries(
    failing: list[CallbackDelivery], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "_RELEASED_AT_ONCE", 2)
    await in_database(_hold_all)
    backend.answers(200)
    await in_database(_probe_now)
    await work()
    assert len(backend.received) == 6
    assert not await in_database(CallbackEndpoint.objects.exists)


async def test_an_endpoint_belongs_to_one_account_and_one_origin(
    failing: list[CallbackDelivery], backend: Backend, alice: Account, bob: Account
) -> None:
    """Another account's callbacks to the same server are sent, and this one's to another."""
    backend.answers(200)
    elsewhere = backend.url.replace("127.0.0.1", "localhost")
    await enqueue(await in_database(new_call, bob, f"{backend.url}/bob"))
    await enqueue(await in_database(new_call, alice, f"{elsewhere}/alice"))
    await enqueue(await in_database(new_call, alice, f"{backend.url}/alice"))
    await work()
    assert sorted(each.path for each in backend.received) == ["/alice/end", "/bob/end"]


async def test_held_back_deliveries_do_not_delay_others(alice: Account, backend: Backend) -> None:
    """Many deliveries wait; those to another endpoint are last in the queue, but are sent."""
    elsewhere = backend.url.replace("127.0.0.1", "localhost")
    for url in [backend.url] * 6 + [elsewhere] * 2:
        await enqueue(await in_database(new_call, alice, url))
    ids = [id for id, _ in await jobs()]
    await in_database(
        CallbackEndpoint.objects.create,
        account=alice,
        origin=backend.url,
        failures=3,
        probe_at=timezone.now() + timedelta(hours=1),
    )
    await in_database(_jobs_are_lost)
    await outbox.deliver(ids[0])
    await work()
    assert [each.headers["Host"] for each in backend.received] == [elsewhere[len("http://") :]] * 2
    held = CallbackDelivery.objects.filter(last_result="endpoint_failing")
    assert await in_database(held.count) == 6


async def test_send_now_ignores_that_the_endpoint_fails(
    failing: list[CallbackDelivery], backend: Backend
) -> None:
    held = failing[0]
    await in_database(outbox.resend, held)
    await work()
    assert len(backend.received) == 1
    await in_database(held.refresh_from_db)
    assert (held.attempts, held.resends, held.last_result) == (1, 1, "endpoint_failing")
    assert held.held_by_id is not None, "its schedule has not begun, so it is due still"

    backend.answers(200)
    await in_database(outbox.resend, held)
    await work()
    assert len(backend.received) == 3, "the other one that was held back too"


async def test_held_back_deliveries_are_given_up_when_every_schedule_has_ended(
    failing: list[CallbackDelivery],
) -> None:
    assert sum(schedule.RETRY_DELAYS, timedelta()) <= schedule.AT_LEAST
    await in_database(_age, created_at=schedule.AT_LEAST - timedelta(minutes=1))
    await in_database(outbox.resume)
    states = lambda: list(CallbackDelivery.objects.values_list("state", flat=True))  # noqa: E731
    assert await in_database(states) == ["pending"] * 6
    await in_database(_age, created_at=schedule.AT_LEAST)
    await in_database(outbox.resume)
    assert sorted(await in_database(states)) == ["given-up"] * 2 + ["pending"] * 4
    await in_database(failing[0].refresh_from_db)
    assert (failing[0].last_result, failing[0].sealed_body) == ("endpoint_failing", None)


async def _probing(failing: list[CallbackDelivery]) -> str:
    """Begin a probe; return the id of the delivery that makes it."""
    await in_database(_put_off_probe, timedelta(0))
    await outbox.probe((await in_database(CallbackEndpoint.objects.get)).id)
    id = await in_database(CallbackDelivery.objects.values_list("id", flat=True).get, **_FREED)
    assert await in_database(_claim, id)
    (other,) = {each.id for each in failing[:2]} - {id}
    assert await in_database(_claim, other) is None, "one at a time"
    return str(id)


_FREED = {"attempts": 0, "held_by": None}


async def test_a_probe_runs_again_after_its_worker_dies(
    failing: list[CallbackDelivery], backend: Backend
) -> None:
    probing = await _probing(failing)
    await work()
    claimed_until = (await in_database(CallbackDelivery.objects.get, pk=probing)).claimed_until
    assert (probing, claimed_until) in await jobs(), "its job comes back"

    await in_database(_age, claimed_until=timedelta(0))
    await in_database(_put_off_probe, timedelta(0))
    backend.answers(200)
    await outbox.deliver(probing)
    await work()
    assert len(backend.received) == 2, "it has let the other one go"


async def test_a_probe_without_worker_and_job_is_queued_again(
    failing: list[CallbackDelivery], backend: Backend
) -> None:
    await _probing(failing)
    await in_database(_jobs_are_lost)

    await in_database(_put_off_probe, timedelta(minutes=-2))
    await in_database(outbox.resume)
    backend.answers(200)
    await work()
    assert len(backend.received) == 1, "the other one"


# Secrets


async def test_bodies_and_secrets_are_not_stored_in_plain_text(
    call: Call,
    backend: Backend,
    alice: Account,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for logger in (None, "procrastinate"):
        caplog.set_level("DEBUG", logger)
    await in_database(_set_secrets, alice, SECRET)
    await enqueue(call)
    backend.answers(503, {"answer": "a canary of the backend"})
    await work()
    await in_database(CallbackDelivery.objects.update, url="http://127.0.0.1:1/")
    await in_database(_bring_forward)
    await work()
    await in_database(_bring_forward)
    monkeypatch.setattr(outbox, "TASK", "no.such.task")
    await work()

    stored = await in_database(_dump)
    delivery = await delivery_of(call)
    assert (delivery.attempts, delivery.sealed_body is None) == (2, False)
    assert delivery.id in stored, "the dump has what it should"
    logged = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert "TaskNotFound" in logged, "the log has the traceback of an error"
    for canary in ("canary", SECRET, SECRET.removeprefix("whsec_")):
        assert canary not in stored
        assert canary not in logged


def _dump() -> str:
    """Return everything that is stored about jobs, deliveries and secrets."""
    with connection.cursor() as cursor:
        text = ""
        for table in (
            "procrastinate_jobs",
            "procrastinate_events",
            "procrastinate_periodic_defers",
            "telephony_callbackdelivery",
            "telephony_callbackattempt",
            "accounts_webhooksecret",
        ):
            cursor.execute(f"select * from {table}")  # noqa: S608
            text += repr([tuple(map(_readable, row)) for row in cursor.fetchall()])
    return text


def _readable(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


# Attempts


def _attempts(call: Call) -> list[tuple[str, str]]:
    kept = CallbackAttempt.objects.filter(delivery__call=call).order_by("id")
    return [(attempt.result, attempts.answer_of(attempt)) for attempt in kept]


async def attempts_of(call: Call) -> list[tuple[str, str]]:
    return await in_database(_attempts, call)


async def test_each_attempt_is_stored(call: Call, backend: Backend) -> None:
    backend.answers(503, {"error": "Down for maintenance."})
    await enqueue(call)
    before = timezone.now()
    await work()
    backend.answers(200, {"ok": True})
    await in_database(_bring_forward)
    await work()
    assert await attempts_of(call) == [
        ("503", '{"error": "Down for maintenance."}'),
        ("200", '{"ok": true}'),
    ]
    first = await in_database(CallbackAttempt.objects.earliest, "id")
    assert before <= first.at <= timezone.now()
    assert 0 <= first.duration_ms < 5000
    assert b"maintenance" not in bytes(first.sealed_answer), "it is kept sealed"


async def test_an_attempt_without_a_response_is_stored(call: Call) -> None:
    call.on_call_end_url = "http://127.0.0.1:1/"
    await enqueue(call)
    await work()
    assert await attempts_of(call) == [("unreachable", "")]


async def test_the_first_500_bytes_of_a_response_are_stored(call: Call, backend: Backend) -> None:
    backend.answers_bytes(b"a\0" + "é".encode() * 300)
    await enqueue(call)
    await work()
    assert await attempts_of(call) == [("200", "a\0" + "é" * 249)]


@pytest.mark.parametrize(
    "echo",
    [
        SENT,
        b"You sent: my canary is yellow",
        json.dumps({"got": SENT.decode()}).encode(),
        b"x" * 500 + SENT,
    ],
)
async def test_a_response_that_repeats_the_transcript_is_not_stored(
    call: Call, backend: Backend, echo: bytes
) -> None:
    """The transcript is erased on delivery, so it must not be stored as a response."""
    backend.answers_bytes(echo)
    await enqueue(call)
    await work()
    assert await attempts_of(call) == [("200", attempts.ECHO)]


def sent(*turns: str) -> bytes:
    return json.dumps({"transcript": [{"text": turn} for turn in turns]}).encode()


def test_a_response_may_contain_a_short_turn_by_chance() -> None:
    assert attempts.answer_to_keep(b"ok", sent("ok", "See you on Saturday.")) == "ok"
    assert attempts.answer_to_keep(b"ok, bye", sent("ok", "bye", "")) == attempts.ECHO
    assert attempts.answer_to_keep(b"ok", sent()) == "ok"
    assert attempts.answer_to_keep(b"ok", b"{}") == "ok", "onError"


def test_a_failed_tool_may_not_repeat_its_arguments() -> None:
    body = json.dumps({"arguments": {"name": "Ada Lovelace", "guests": 4}}).encode()
    assert attempts.answer_to_keep(b"No table for Ada Lovelace", body) == attempts.ECHO
    assert attempts.answer_to_keep(b"No table for 4", body) == "No table for 4"
    nested = json.dumps({"arguments": {"order": [{"number": "A-1001"}]}}).encode()
    assert attempts.answer_to_keep(b"There is no A-1001", nested) == attempts.ECHO


def test_a_long_turn_is_recognized_by_its_beginning() -> None:
    turn = "I would like to know where my order is. " * 2_000
    for answer in (turn.encode(), b"x" * 499 + turn.encode(), json.dumps(turn).encode()):
        assert attempts.answer_to_keep(answer, sent(turn)) == attempts.ECHO
    assert attempts.answer_to_keep(b"x" * 5_000 + turn.encode(), sent(turn)) == "x" * 500


def test_attempts_are_stored_for_30_days(call: Call) -> None:
    outbox.enqueue_call_end(call, BODY)
    delivery = _delivery(call)
    for days in (29, 31, 32, 33):
        at = timezone.now() - timedelta(days=days)
        attempts.keep_all([(delivery, Result(f"{days}", at=at, duration_ms=1))])
        failure = Failure("onToolCall", "", Result(f"{days}", at=at))
        attempts.keep_failed(call.id, call.account_id, [failure])
    assert attempts.delete_expired(at_most=2) == 2
    forget_callback_attempts(0)
    assert _attempts(call) == [("29", "")]
    assert [each.result for each in call.failed_requests.all()] == ["29"]


# Resending


def _resend(call: Call) -> CallbackDelivery:
    return outbox.resend(_delivery(call))


async def test_a_resend_is_sent_immediately(call: Call, backend: Backend) -> None:
    backend.answers(503)
    await enqueue(call)
    await work()
    backend.answers(200)
    await in_database(_resend, call)
    await work()
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.attempts, len(backend.received)) == ("delivered", 2, 2)
    assert delivery.sealed_body is None
    assert delivery.resume_at is None


async def test_a_failed_resend_does_not_change_the_schedule(
    later: None, call: Call, backend: Backend
) -> None:
    backend.answers(503)
    await enqueue(call)
    await work()
    due_at = (await delivery_of(call)).due_at
    for _ in range(9):  # more attempts than the schedule has
        await in_database(_resend, call)
        await in_database(_resend, call)
        await work()
    delivery = await delivery_of(call)
    assert (delivery.state, delivery.attempts, delivery.resends) == ("pending", 10, 9)
    assert delivery.due_at == due_at
    assert len(await attempts_of(call)) == len(backend.received) == 10

    await in_database(_bring_forward)
    before = timezone.now()
    await work()
    delivery = await delivery_of(call)
    assert before + timedelta(minutes=5) <= delivery.due_at, "the second delay of the schedule"


async def test_retry_after_in_response_to_a_resend_extends_the_wait(
    call: Call, backend: Backend
) -> None:
    backend.answers(503)
    await enqueue(call)
    await work()
    backend.answers(503, **{"Retry-After": "3600"})
    await in_database(_resend, call)
    before = timezone.now()
    await work()
    assert (await delivery_of(call)).due_at >= before + timedelta(hours=1)


async def test_a_resend_during_an_attempt_changes_nothing(call: Call, backend: Backend) -> None:
    await enqueue(call)
    attempt = await in_database(_claim, (await delivery_of(call)).id)
    assert attempt is not None
    delivery = await in_database(_resend, call)
    assert delivery.resume_at is None
    assert len(await jobs()) == 1, "the one it had"


@pytest.mark.parametrize(("status", "state"), [(200, "delivered"), (410, "given up")])
async def test_an_erased_delivery_cannot_be_sent_again(
    call: Call, backend: Backend, status: int, state: str
) -> None:
    backend.answers(status)
    await enqueue(call)
    await work()
    with pytest.raises(ApiError, match=f"was {state}. Its content was erased") as refusal:
        await in_database(_resend, call)
    assert (refusal.value.status_code, refusal.value.code) == (409, "delivery_erased")
    assert await jobs() == []
