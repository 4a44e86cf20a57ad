"""The jobs of metering, as the worker knows them."""

from __future__ import annotations

import pytest
from django.db import connection
from procrastinate.contrib.django import app

from accounts.models import Account
from billing.metering.tasks import compare_meter, compare_page, meter_usage, search_usage
from billing.models import MeterEvent
from billing.tests.metered import become_customer, call, set_up_meter, subscription
from billing.tests.watched import WatchedStripe

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("name", "cron"),
    [
        ("meter_usage", "* * * * *"),
        ("search_usage", "41 3 * * *"),
        ("compare_meter", "11 4 * * *"),
    ],
)
def test_the_worker_runs_them(name: str, cron: str) -> None:
    schedule = {
        periodic.task.name: periodic.cron
        for periodic in app.periodic_registry.periodic_tasks.values()
    }
    assert schedule[f"billing.metering.tasks.{name}"] == cron


def test_a_minute_after_its_end_a_call_is_reported(
    alice: Account, stripes_meter: WatchedStripe
) -> None:
    set_up_meter()
    become_customer(alice, subscription())
    record = call(alice, 3)
    meter_usage(timestamp=0)
    assert stripes_meter.events[record.call_sid].minutes == 3


def test_the_search_writes(alice: Account) -> None:
    call(alice)
    search_usage(timestamp=0)
    assert MeterEvent.objects.count() == 1


def test_the_comparison_is_a_chain_of_pages(no_jobs: None) -> None:
    for _ in range(2):
        compare_meter(timestamp=0)
    with connection.cursor() as cursor:
        cursor.execute("select task_name, args ->> 'after' from procrastinate_jobs")
        assert cursor.fetchall() == [("billing.metering.tasks.compare_page", "")]
    compare_page("")
