"""What is deleted when it is old, and what stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import Account
from billing.metering.events import meter_events_write
from billing.models import MeterEvent
from core.ids import first_id_of
from telephony.callbacks import attempts
from telephony.callbacks.attempts import Failure, Result
from telephony.engine.codes import EventKind
from telephony.models import (
    Call,
    CallbackAttempt,
    CallbackDelivery,
    CallDay,
    CallEvent,
    FailedRequest,
    MetadataValue,
    Timeline,
)
from telephony.retention import forget_old
from telephony.services import call_accept, call_connect, call_end, call_note
from telephony.tests.test_calls_api import call_of
from telephony.timelines import timelines_pack
from usage.models import DailyUsage, TotalUsage, UsageRecord

pytestmark = pytest.mark.django_db(transaction=True)

A_RUN = timedelta(minutes=1)
ITS_OWN = (CallEvent, Timeline, CallbackDelivery, CallbackAttempt, FailedRequest, MetadataValue)


@pytest.fixture
def alice_web(client: Client, alice: Account) -> Client:
    client.force_login(alice)
    return client


def call_ago(account: Account, days: float, number: int = 1) -> Call:
    """A call of that many days ago: connected, charged, reported."""
    began = timezone.now() - timedelta(days=days)
    id = first_id_of(began) + f"{number:016}"
    call = call_of(account, number, id=id, created_at=began)
    call_accept(call, metadata={"order": "A-1001"})
    call_connect(call, now=began)
    Call.objects.filter(pk=call.pk).update(billed_from=began)
    call_end(
        call_id=call.id,
        status=Call.Status.COMPLETED,
        reason="caller_hangup",
        ended_at=began + timedelta(seconds=61),
        failed=[Failure("onToolCall", "", Result("500"), "book")],
    )
    delivery = CallbackDelivery.objects.get(call=call)
    attempts.keep_all([(delivery, Result("200"))])
    CallbackDelivery.objects.filter(call=call).update(state="delivered")
    call.refresh_from_db()
    return call


def test_everything_is_kept_by_default(alice: Account) -> None:
    call_ago(alice, 3000)
    assert forget_old(within=A_RUN) == {"calls": 0, "callbacks": 0}
    assert Call.objects.count() == 1


def test_old_calls_go_with_all_that_is_theirs(alice: Account, settings: Settings) -> None:
    settings.RETAIN_CALLS_DAYS = 90
    old, recent = call_ago(alice, 91, 1), call_ago(alice, 89, 2)
    timelines_pack(within=A_RUN)
    call_note(old, EventKind.RINGING)
    meter_events_write()
    assert forget_old(within=A_RUN) == {"calls": 1, "callbacks": 0}
    assert [each.id for each in Call.objects.all()] == [recent.id]
    assert {model.__name__: model._default_manager.count() for model in ITS_OWN} == {
        "CallEvent": 0,
        "Timeline": 1,
        "CallbackDelivery": 1,
        "CallbackAttempt": 1,
        "FailedRequest": 1,
        "MetadataValue": 1,
    }
    # What invoices and statistics follow from stays.
    assert UsageRecord.objects.count() == MeterEvent.objects.count() == 2
    assert sum(day.minutes for day in DailyUsage.objects.all()) == 4
    assert TotalUsage.objects.total_of(alice).calls == 2
    assert sum(day.completed for day in CallDay.objects.all()) == 2
    assert forget_old(within=A_RUN) == {"calls": 0, "callbacks": 0}


def test_what_is_not_over_stays(alice: Account, settings: Settings) -> None:
    settings.RETAIN_CALLS_DAYS = settings.RETAIN_CALLBACKS_DAYS = 1
    undelivered, live = call_ago(alice, 5, 1), call_ago(alice, 5, 2)
    CallbackDelivery.objects.filter(call=undelivered).update(state="pending")
    Call.objects.filter(pk=live.pk).update(ended_at=None)
    assert forget_old(within=A_RUN)["calls"] == 0
    CallbackDelivery.objects.update(state="given-up")
    assert forget_old(within=A_RUN)["calls"] == 1


def test_one_that_cannot_be_deleted_stops_no_other(alice: Account, settings: Settings) -> None:
    settings.RETAIN_CALLS_DAYS = 1
    first, second = call_ago(alice, 5, 1), call_ago(alice, 4, 2)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE refers (call_id varchar(25) REFERENCES telephony_call)")
        try:
            cursor.execute("INSERT INTO refers VALUES (%s)", [first.id])
            with pytest.raises(IntegrityError):
                first.delete()
            assert forget_old(within=A_RUN)["calls"] == 1
        finally:
            cursor.execute("DROP TABLE refers")
    assert Call.objects.filter(pk=first.pk).exists()
    assert not Call.objects.filter(pk=second.pk).exists()


def test_old_callbacks(alice: Account, settings: Settings) -> None:
    settings.RETAIN_CALLBACKS_DAYS = 30
    call = call_ago(alice, 40)
    recent = call_ago(alice, 5, 2)
    CallbackAttempt.objects.all().delete()
    CallbackDelivery.objects.filter(call=call).update(
        id=first_id_of(timezone.now() - timedelta(days=40)) + "0" * 16
    )
    assert forget_old(within=A_RUN) == {"calls": 0, "callbacks": 1}
    assert [each.call_id for each in CallbackDelivery.objects.all()] == [recent.id]


def test_old_timelines(alice: Account, alice_web: Client, settings: Settings) -> None:
    """They go by whole months; the call stays, and its page says why it has none."""
    settings.RETAIN_TIMELINES_DAYS = 30
    old, recent = call_ago(alice, 62, 1), call_ago(alice, 5, 2)
    timelines_pack(within=A_RUN)
    forget_old(within=A_RUN)
    assert [each.call_id for each in Timeline.objects.all()] == [recent.id]
    said = "The timeline of this call has been deleted"
    for call, is_deleted in ((old, True), (recent, False)):
        text = alice_web.get(reverse("call", args=[call.id])).content.decode()
        assert (said in text) is is_deleted
        assert "No events yet" not in text


class TestWhatIsSaid:
    @pytest.mark.parametrize("days", [0, 90])
    def test_a_deleted_call(
        self, alice_api: APIClient, alice_web: Client, settings: Settings, days: int
    ) -> None:
        settings.RETAIN_CALLS_DAYS = days
        id = first_id_of(timezone.now() - timedelta(days=91)) + "0" * 16
        answers = [
            alice_api.get(f"/api/calls/{id}"),
            alice_api.get(f"/api/calls/CA{1:032x}"),
            alice_web.get(reverse("call", args=[id])),
        ]
        for answer in answers:
            assert answer.status_code == 404
            text = answer.content.decode()
            assert ("Calls are deleted after 90 days" in text) is bool(days)
        recent = alice_api.get(f"/api/calls/{first_id_of(timezone.now())}{0:016}")
        assert recent.status_code == 404
        assert "deleted" not in recent.content.decode()

    def test_a_call_of_another_account(
        self, bob: Account, alice_api: APIClient, settings: Settings
    ) -> None:
        """It looks like one that was deleted."""
        settings.RETAIN_CALLS_DAYS = 1
        answer = alice_api.get(f"/api/calls/{call_ago(bob, 2).id}")
        assert answer.status_code == 404
        assert "Calls are deleted after 1 day." in answer.content.decode()

    def test_the_list(self, alice: Account, alice_web: Client, settings: Settings) -> None:
        call_of(alice)
        assert "Calls are deleted" not in alice_web.get(reverse("calls")).content.decode()
        settings.RETAIN_CALLS_DAYS = 90
        assert "Calls are deleted after 90 days" in alice_web.get(reverse("calls")).content.decode()
