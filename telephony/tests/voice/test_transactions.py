"""A visit that runs again after its first run was committed: its connection broke in between."""

from __future__ import annotations

import pytest
from django.utils import timezone

from accounts.models import Account
from telephony.callbacks.attempts import Result
from telephony.engine.codes import ErrorCode, EventKind
from telephony.models import Call, FailedRequest
from telephony.tests.engine.conversation import PLAN
from telephony.voice import transactions
from telephony.voice.handover import InvalidTicket, take_plan

CALL_SID = "CA" + "0" * 32
ASKED = {"onCallStartMs": 5}


@pytest.fixture
def call(alice: Account) -> Call:
    return Call.objects.create(
        account=alice, call_sid=CALL_SID, direction="inbound", status="ringing"
    )


def kinds(call: Call) -> list[str]:
    return [event.kind for event in call.events.order_by("at")]


def test_a_transferred_call_is_still_to_be_transferred(call: Call) -> None:
    assert transactions.transfer(call, "+15550001111", asked=ASKED)
    before = kinds(call)
    assert transactions.transfer(call, "+15550001111", asked=ASKED)
    assert kinds(call) == before


def test_an_accepted_call_has_one_ticket_that_opens(call: Call) -> None:
    unseen = transactions.accept(call, PLAN, asked=ASKED)
    ticket = transactions.accept(call, PLAN, asked=ASKED)
    assert unseen
    assert ticket
    with pytest.raises(InvalidTicket):
        take_plan(unseen, CALL_SID, timezone.now())
    assert take_plan(ticket, CALL_SID, timezone.now())[1].plan == PLAN


def test_a_call_fails_once(call: Call) -> None:
    error = (ErrorCode.CALL_START_BAD_STATUS, "It responded with 500.")
    for _ in range(2):
        transactions.fail(call, error, Result("500"), asked=ASKED)
    assert FailedRequest.objects.filter(call_id=call.id).count() == 1
    assert kinds(call).count(EventKind.NOT_ACCEPTED) == 1


def test_a_call_is_declined_once(call: Call) -> None:
    for _ in range(2):
        transactions.refuse(call, "busy", asked=ASKED)
    assert kinds(call).count(EventKind.DECLINED) == 1


def test_a_dropped_call_does_not_fail(call: Call) -> None:
    Call.objects.filter(pk=call.pk).delete()
    transactions.fail(call, (ErrorCode.CALL_START_BAD_STATUS, "x"), Result("500"), asked=ASKED)
    assert not FailedRequest.objects.exists()
