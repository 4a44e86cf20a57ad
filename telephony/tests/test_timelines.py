"""Timelines: whether loose or packed, they read the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Account
from telephony.engine.codes import EventKind
from telephony.models import Call, CallEvent, Timeline
from telephony.services import call_note
from telephony.tests.test_calls_api import NOW, call_of
from telephony.timelines import PACKED_AFTER, timeline_of, timelines_pack

pytestmark = pytest.mark.django_db(transaction=True)

A_RUN = timedelta(minutes=1)
EARLIER = PACKED_AFTER + timedelta(minutes=1)


def talked(account: Account, number: int = 1, *, ended_at: datetime | None = NOW) -> Call:
    """A call that began at ``NOW`` and whose timeline is loose."""
    call = call_of(account, number, created_at=NOW, ended_at=ended_at, ended_reason="failed")
    call_note(call, EventKind.RECEIVED, at=NOW)
    call_note(call, EventKind.ACCEPTED, at=NOW + timedelta(milliseconds=72), onCallStartMs=72)
    call_note(call, EventKind.ERROR, at=NOW + timedelta(seconds=9), message="“Grüße”, 你好 <b>")
    return call


def shown(api: APIClient, call: Call) -> Any:
    return api.get(f"/api/calls/{call.id}").json()["call"]["timeline"]


def test_it_reads_the_same(alice: Account, alice_api: APIClient) -> None:
    calls = [talked(alice, number) for number in range(3)]
    before = [shown(alice_api, call) for call in calls]
    assert timelines_pack(within=A_RUN) == 3
    assert not CallEvent.objects.exists()
    assert [shown(alice_api, call) for call in calls] == before
    assert len(before[0]) == 3
    assert timelines_pack(within=A_RUN) == 0


@pytest.mark.parametrize("page", ["call", "admin:telephony_call_change"])
def test_it_stays_on_the_page(alice: Account, operator: Account, client: Client, page: str) -> None:
    call = talked(alice)
    client.force_login(alice if page == "call" else operator)

    def text() -> str:
        return client.get(reverse(page, args=[call.id])).content.decode()

    before = text()
    timelines_pack(within=A_RUN)
    assert not CallEvent.objects.exists()
    for each in (before, text()):
        assert "Grüße" in each
        assert "<b> " not in each
        assert each.count("09:30:09") == before.count("09:30:09") > 0


def test_what_is_added_later_is_packed_too(alice: Account, alice_api: APIClient) -> None:
    call = talked(alice)
    timelines_pack(within=A_RUN)
    call_note(call, EventKind.STATUS_IGNORED, at=NOW + timedelta(hours=28))
    before = shown(alice_api, call)
    assert [each["kind"] for each in before] == ["received", "accepted", "error", "status_ignored"]
    assert timelines_pack(within=A_RUN) == 1
    assert shown(alice_api, call) == before


def test_recent_calls_and_calls_in_progress_stay_loose(alice: Account) -> None:
    talked(alice, 1, ended_at=None)
    talked(alice, 2, ended_at=timezone.now() - PACKED_AFTER + timedelta(minutes=1))
    packed = talked(alice, 3, ended_at=timezone.now() - EARLIER)
    assert timelines_pack(within=A_RUN) == 1
    assert list(Timeline.objects.values_list("call_id", flat=True)) == [packed.id]
    assert CallEvent.objects.count() == 6


def test_one_that_cannot_be_packed_stops_no_other(alice: Account) -> None:
    bad, good = talked(alice, 1), talked(alice, 2)
    timelines_pack(within=A_RUN)
    Timeline.objects.filter(pk=bad.pk).update(packed=b"not compressed")
    for call in (bad, good):
        call_note(call, EventKind.RINGING, at=NOW + timedelta(hours=1))
    assert timelines_pack(within=A_RUN) == 1
    assert [event.call_id for event in CallEvent.objects.all()] == [bad.id]
    assert len(timeline_of(good)) == 4


def test_only_the_newest(alice: Account) -> None:
    call = talked(alice)
    kinds = ["accepted", "error"]
    assert [event.kind for event in timeline_of(call, newest=2)] == kinds
    timelines_pack(within=A_RUN)
    assert [event.kind for event in timeline_of(call, newest=2)] == kinds
    assert timeline_of(call, newest=3)[0].at == NOW
    assert timeline_of(call, newest=4)[1].at == NOW + timedelta(milliseconds=72)


def test_a_deleted_call_has_none(alice: Account) -> None:
    call = talked(alice)
    timelines_pack(within=A_RUN)
    call.delete()
    assert not Timeline.objects.exists()
