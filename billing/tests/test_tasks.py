"""The jobs, carried out by a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

from accounts.models import Account
from billing.checkout import checkout_open
from billing.models import StatusCheck, StripeCustomer
from billing.status_checks import PAGE_TASK, TASK, status_mark
from billing.tests.subscribing import down
from billing.tests.test_webhooks import send
from billing.tests.watched import WatchedStripe, nothing
from billing.webhooks import webhook_secrets
from core.connections import run_and_let_go
from core.queue import lanes
from core.queue.jobs import defer
from core.tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_workers(transactional_db: None) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("truncate procrastinate_jobs, procrastinate_workers cascade")
    yield
    connections.close_all()


@pytest.fixture
def paid(carol: Account, at_stripe: WatchedStripe) -> dict[str, Any]:
    """Carol's subscription, of which we have not heard yet."""
    checkout_open(account=carol)
    return at_stripe.pay(StripeCustomer.objects.get(account=carol).checkout_id).body


@asynccontextmanager
async def worker(*, waits: bool) -> AsyncIterator[asyncio.Task[None]]:
    with app.replace_connector(app.connector.get_worker_connector()):
        async with app.open_async():
            task = asyncio.ensure_future(
                app.run_worker_async(
                    queues=[lanes.MONEY],
                    wait=waits,
                    listen_notify=waits,
                    concurrency=10,
                    install_signal_handlers=False,
                )
            )
            try:
                yield task
            finally:
                task.cancel()
                await asyncio.wait([task])


async def work() -> None:
    """Do every job, those for later too; a worker stops while one of its jobs makes another."""
    while await query(_bring_forward):
        async with worker(waits=False) as task:
            await task


async def query(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run what queries in a thread, and close the thread's connection."""
    return await asyncio.to_thread(run_and_let_go, function, *args, **kwargs)


async def test_an_event_activates_within_two_seconds(carol: Account, paid: dict[str, Any]) -> None:
    event = {"id": "evt_1", "object": "event", "type": "checkout.session.completed"}
    secret = (await query(webhook_secrets))[0]
    async with worker(waits=True):
        await until(lambda: query(ProcrastinateWorker.objects.exists), within=10)
        about = {"data": {"object": {"id": "cs_1", "customer": paid["customer"]}}}
        await query(send, event | about, secret)
        active = Account.objects.filter(pk=carol.pk, status="ACTIVE").exists
        await until(lambda: query(active), within=20)


async def test_a_stripe_that_is_down_is_asked_again_later(
    carol: Account, paid: dict[str, Any], at_stripe: WatchedStripe
) -> None:
    at_stripe.before = down
    await query(status_mark, account_id=carol.id, cause="an event")
    async with worker(waits=False) as task:
        await task
    job = await query(ProcrastinateJob.objects.get, task_name=TASK)
    assert (job.status, job.attempts) == ("todo", 1)
    assert timedelta(0) < job.scheduled_at - timezone.now() < timedelta(seconds=20)
    at_stripe.before = nothing
    await work()
    await query(carol.refresh_from_db)
    assert carol.status == "ACTIVE"


def _bring_forward() -> bool:
    """Let no job wait; whether there is one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update procrastinate_jobs set scheduled_at = null"
            " where status = 'todo' and queue_name = 'money'"
        )
        return cursor.rowcount > 0


async def test_every_fifteen_minutes_a_lost_event_is_made_up_for(
    carol: Account, paid: dict[str, Any]
) -> None:
    await query(defer, "billing.tasks.check_unsettled", timestamp=0)
    await work()
    await query(carol.refresh_from_db)
    assert carol.status == "ACTIVE"
    assert not await query(StatusCheck.objects.unsettled().exists)


async def test_every_night_all_are_checked(carol: Account, paid: dict[str, Any]) -> None:
    await query(defer, "billing.tasks.check_everybody", timestamp=0)
    await work()
    await query(carol.refresh_from_db)
    assert carol.status == "ACTIVE"


def test_one_round_at_a_time_goes_over_all() -> None:
    for _ in range(2):
        defer(PAGE_TASK, only_one=PAGE_TASK, after="")
    assert ProcrastinateJob.objects.filter(task_name=PAGE_TASK).count() == 1


def test_the_schedule() -> None:
    crons = {
        periodic.task.name: periodic.cron
        for periodic in app.periodic_registry.periodic_tasks.values()
    }
    assert crons["billing.tasks.check_unsettled"] == "*/15 * * * *"
    assert crons["billing.tasks.check_everybody"] == "23 2 * * *"
    assert TASK in app.tasks
