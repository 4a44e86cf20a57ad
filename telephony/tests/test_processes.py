"""The list of this installation's processes, from their first heartbeat to their end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from core.version import VERSION
from telephony.models import SILENT_AFTER, Process
from telephony.processes import (
    REMEMBERED_FOR,
    Identity,
    process_beat,
    process_leave,
    processes_counted,
    processes_forget,
)

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


def beat(kind: Process.Kind, **report: int) -> Identity:
    me = Identity(kind)
    process_beat(me, **report)  # type: ignore[arg-type]
    return me


def silence(me: Identity, duration: timedelta) -> None:
    Process.objects.filter(pk=me.id).update(last_seen_at=timezone.now() - duration)


def test_it_is_known_from_its_first_heartbeat_to_its_end() -> None:
    me = Identity(Process.Kind.WORKER, queues=("calls", "mail"), host="a.example", pid=7)
    assert not process_beat(me)
    assert process_beat(me)
    process = Process.objects.get()
    assert (process.kind, process.host, process.pid) == ("worker", "a.example", 7)
    assert (process.version, process.queues) == (VERSION, "calls,mail")
    process_leave(me.id)
    assert not Process.objects.exists()
    assert not process_beat(me)


def test_it_says_how_many_calls_it_holds_and_since_when_it_drains() -> None:
    me = beat(Process.Kind.ENGINE, calls=3)
    assert Process.objects.get().draining_since is None
    process_beat(me, is_draining=True, calls=2)
    first = Process.objects.get()
    assert first.calls == 2
    assert first.draining_since is not None
    process_beat(me, is_draining=True, calls=1)
    assert Process.objects.get().draining_since == first.draining_since


def test_they_are_counted_by_kind_and_state() -> None:
    up, silent = (beat(Process.Kind.WORKER) for _ in range(2))
    beat(Process.Kind.WEB)
    process_beat(Identity(Process.Kind.ENGINE), is_draining=True)
    silence(up, SILENT_AFTER - 5 * SECOND)
    silence(silent, SILENT_AFTER + SECOND)
    assert processes_counted() == {
        ("worker", "up"): 1,
        ("worker", "silent"): 1,
        ("web", "up"): 1,
        ("engine", "draining"): 1,
    }


def test_one_that_fell_silent_is_remembered_for_a_day() -> None:
    silence(beat(Process.Kind.WORKER), REMEMBERED_FOR + SECOND)
    kept = beat(Process.Kind.WORKER)
    silence(kept, REMEMBERED_FOR - 5 * SECOND)
    processes_forget()
    assert [process.pk for process in Process.objects.all()] == [kept.id]
