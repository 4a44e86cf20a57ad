"""From usage records to meter events."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connections
from django.utils import timezone

from accounts.models import Account
from billing.metering import events
from billing.metering.events import (
    OVERLAP,
    SEARCHED,
    meter_events_search,
    meter_events_write,
)
from billing.models import MeterEvent
from billing.tests.metered import call
from core.ids import new_id
from core.tests.rows import refuse

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def written() -> set[str]:
    return set(MeterEvent.objects.values_list("identifier", flat=True))


def test_it_works(alice: Account) -> None:
    record = call(alice, 3)
    assert meter_events_write() == 1
    event = MeterEvent.objects.get()
    assert event.identifier == record.call_sid
    assert (event.usage_record, event.account, event.minutes) == (record, alice, 3)
    assert event.happened_at == record.created_at
    assert (event.state, event.attempts, event.first_attempt_at) == ("pending", 0, None)


def test_a_call_is_written_once(alice: Account) -> None:
    call(alice)
    assert meter_events_write() == 1
    assert meter_events_write() == 0
    assert meter_events_search() == 0


def test_the_rest_of_a_call_that_was_charged_too_early_is_another_event(alice: Account) -> None:
    record = call(alice, 1)
    assert meter_events_write() == 1
    record.pk, record.part, record.minutes = new_id(), 2, 3
    record.save(force_insert=True)
    assert meter_events_write() == 1
    events = MeterEvent.objects.order_by("identifier").values_list("identifier", "minutes")
    assert list(events) == [(record.call_sid, 1), (f"{record.call_sid}.2", 3)]


def test_what_costs_nothing_is_not_metered(alice: Account) -> None:
    call(alice, 0)
    assert meter_events_write() == 0
    assert written() == set()


def test_there_may_be_many(alice: Account, bob: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE_SIZE", 3)
    records = [call(account) for _ in range(4) for account in (alice, bob)]
    assert meter_events_write() == 8
    assert written() == {record.call_sid for record in records}


def test_it_goes_on_after_a_long_pause(alice: Account) -> None:
    """However long nobody wrote, what came since the last event is found."""
    now = timezone.now()
    call(alice, recorded_at=now - timedelta(days=20))
    meter_events_write()
    call(alice, recorded_at=now - timedelta(days=19))
    call(alice, recorded_at=now)
    assert meter_events_write() == 2


def test_what_was_committed_late_is_found(alice: Account) -> None:
    """The transaction of an earlier record ended after that of a later one."""
    now = timezone.now()
    call(alice, recorded_at=now)
    meter_events_write()
    late = call(alice, recorded_at=now - OVERLAP + MINUTE)
    assert meter_events_write() == 1
    assert late.call_sid in written()


def test_a_clock_that_is_ahead_hides_nothing(alice: Account) -> None:
    now = timezone.now()
    call(alice, recorded_at=now + timedelta(days=1))
    meter_events_write()
    call(alice, recorded_at=now)
    assert meter_events_write() == 1


def test_a_call_that_ended_long_before_it_was_recorded(alice: Account) -> None:
    call(alice)
    meter_events_write()
    record = call(alice, ended_at=timezone.now() - timedelta(days=3))
    assert meter_events_write() == 1
    assert MeterEvent.objects.get(pk=record.call_sid).happened_at == record.created_at


@pytest.mark.django_db(transaction=True)
def test_two_may_write_at_once(alice: Account) -> None:
    for _ in range(50):
        call(alice)
    start = Barrier(4, timeout=10)

    def write(_: int) -> None:
        try:
            start.wait()
            meter_events_write()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert MeterEvent.objects.count() == 50


class TestSearch:
    """Usage recorded by a clock that was hours behind is metered too."""

    @pytest.fixture(autouse=True)
    def newest(self, alice: Account) -> None:
        call(alice)
        meter_events_write()

    def test_what_was_missed_is_found_at_night(
        self, alice: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        missed = call(alice, recorded_at=timezone.now() - SEARCHED)
        assert meter_events_write() == 0
        assert meter_events_search() == 1
        assert missed.call_sid in written()
        assert [record.levelname for record in caplog.records] == ["ERROR"]

    def test_what_is_older_is_not_looked_at(self, alice: Account) -> None:
        call(alice, recorded_at=timezone.now() - SEARCHED - OVERLAP - MINUTE)
        assert meter_events_search() == 0

    def test_what_is_new_was_not_missed(
        self, alice: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        new = call(alice)
        assert meter_events_search() == 0
        assert new.call_sid in written()
        assert caplog.records == []

    def test_there_may_be_many(self, alice: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "PAGE_SIZE", 2)
        now = timezone.now()
        for hours in (1, 1, 1, 50, 100):
            call(alice, recorded_at=now - timedelta(hours=hours))
        assert meter_events_search() == 5


def test_one_that_cannot_be_written_stops_no_other(alice: Account) -> None:
    bad, good = call(alice, 3), call(alice, 4)
    refuse("billing_meterevent", f"NEW.usage_record_id = '{bad.id}'")
    meter_events_write()
    assert written() == {good.call_sid}
