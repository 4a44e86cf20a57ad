"""No query of the meter looks at more than what is new, however much there was before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from billing.metering import events
from billing.metering.comparison import page_compare
from billing.metering.events import (
    meter_events_search,
    meter_events_send,
    meter_events_write,
)
from billing.models import MeterEvent, MeterProblem
from billing.tests.metered import become_customer, set_up_meter, subscription
from billing.tests.plans import planned
from billing.tests.watched import WatchedStripe
from core.ids import first_id_of

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
ROWS = 50_000
RECENT = 100
# With the index entries of rows that are dead: those of other tests stay while this history does.
FEW = ROWS // 10
TABLES = {"usage_usagerecord", "billing_meterevent"}


@pytest.fixture(scope="module", autouse=True)
def history(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Ten months of metered calls, as many again that cost nothing, and a few new ones."""
    now = timezone.now()
    days = [now - timedelta(days=day) for day in range(300, 0, -1)]
    with django_db_blocker.unblock(), transaction.atomic(), connection.cursor() as cursor:
        account = Account.objects.create_user("history@example.org", "a long password")
        for at in days:
            _record(cursor, account, at, ROWS // len(days), minutes=1)
        _record(cursor, account, now - 2 * MINUTE, RECENT, minutes=1)
        cursor.execute(_INSERT_EVENTS)
        _record(cursor, account, now - 3 * MINUTE, ROWS, minutes=0)
        _record(cursor, account, now - MINUTE, RECENT, minutes=1)
        cursor.execute("ANALYZE usage_usagerecord, billing_meterevent")
        yield
        transaction.set_rollback(True)


@pytest.fixture
def account() -> Account:
    """The account whose calls these are; it began to pay a week ago."""
    account = Account.objects.get(email="history@example.org")
    set_up_meter()
    become_customer(account, subscription())
    return account


def _record(cursor: Any, account: Account, at: datetime, rows: int, *, minutes: int) -> None:
    values = {"account": account.id, "rows": rows, "prefix": first_id_of(at), "at": at}
    cursor.execute(_INSERT_RECORDS, values | {"minutes": minutes})


_INSERT_RECORDS = """
    INSERT INTO usage_usagerecord (
        id, call_sid, direction, caller_phone, called_number, duration_seconds, minutes,
        platform_cost, twilio_cost, openai_cost, created_at, account_id
    )
    SELECT %(prefix)s || lpad(n::text, 16, '0'), 'CA' || md5(%(prefix)s || n), 'inbound', '', '',
           60 * %(minutes)s, %(minutes)s, 0, 0, 0, %(at)s, %(account)s
    FROM generate_series(1, %(rows)s) AS n
"""
_INSERT_EVENTS = """
    INSERT INTO billing_meterevent (
        identifier, usage_record_id, account_id, minutes, happened_at, state, attempts,
        next_attempt_at, last_error, sent_at
    )
    SELECT call_sid, id, account_id, minutes, created_at, 'sent', 1, created_at, '', created_at
    FROM usage_usagerecord
"""


def test_writing() -> None:
    with planned() as plans:
        assert meter_events_write() == RECENT
    assert not plans.tables_read_whole & TABLES
    assert "usage_record_billable" in plans.indexes
    assert plans.rows_looked_at < FEW


def test_searching() -> None:
    missed = MeterEvent.objects.filter(happened_at__gt=timezone.now() - timedelta(days=2.5))
    missed = missed.order_by("happened_at")[:RECENT]
    MeterEvent.objects.filter(pk__in=[event.pk for event in missed])._raw_delete("default")
    with planned() as plans:
        assert meter_events_search() == RECENT
    assert not plans.tables_read_whole & TABLES
    assert plans.rows_looked_at < FEW


def test_beginning_with_a_long_history() -> None:
    MeterEvent.objects.all()._raw_delete("default")
    with planned() as plans:
        assert len(events._write_page("")) == events.PAGE_SIZE
    assert "usage_usagerecord" not in plans.tables_read_whole
    assert plans.rows_looked_at < FEW


def test_sending(stripes_meter: WatchedStripe, account: Account) -> None:
    meter_events_write()
    with planned() as plans:
        meter_events_send()
    assert len(stripes_meter.events) == RECENT
    assert "billing_meterevent" not in plans.tables_read_whole
    assert "meter_event_due" in plans.indexes
    assert plans.rows_looked_at < FEW


def test_comparing(stripes_meter: WatchedStripe, account: Account, no_jobs: None) -> None:
    """The query reads the period alone."""
    with planned() as plans:
        page_compare()
    assert MeterProblem.objects.filter(kind="difference").count() == 1
    assert not plans.tables_read_whole & TABLES
    assert "meter_event_by_account" in plans.indexes
    assert plans.rows_looked_at < FEW


def test_asking_about_an_old_attempt(stripes_meter: WatchedStripe, account: Account) -> None:
    meter_events_write()
    attempted_at = timezone.now() - timedelta(days=2)
    MeterEvent.objects.unsent().update(first_attempt_at=attempted_at)
    with planned() as plans:
        meter_events_send()
    assert "billing_meterevent" not in plans.tables_read_whole
    assert plans.rows_looked_at < FEW
