"""What owners are told about calls that fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import Account
from dashboard.tests.mails import jobs, sent
from telephony import incidents
from telephony.call_sids import new_test_sid
from telephony.engine.codes import EndedReason, ErrorCode, EventKind, OnErrorCode, model_error_code
from telephony.models import Call, Incident, NotificationSettings
from telephony.outcomes import Outcome
from telephony.services import call_accept, call_end, call_note

pytestmark = pytest.mark.django_db

NUMBER, OTHER_NUMBER, PERSON = "+15551234567", "+15557654321", "+19805551234"
NOW = datetime(2026, 4, 5, 9, 30, tzinfo=UTC)
TIMEOUT, BAD_STATUS = ErrorCode.CALL_START_TIMEOUT, ErrorCode.CALL_START_BAD_STATUS

_sids = count(1)


def call_of(account: Account, number: str = NUMBER, **fields: Any) -> Call:
    values = {
        "call_sid": f"CA{next(_sids):032x}",
        "direction": Call.Direction.INBOUND,
        "status": Call.Status.RINGING,
        "caller_phone": PERSON,
        "called_number": number,
    }
    return Call.objects.create(account=account, **values | fields)


def fails(
    account: Account, code: OnErrorCode = TIMEOUT, *, at: datetime = NOW, **fields: Any
) -> Call:
    """Let a call fail, and its job run."""
    call = call_of(account, created_at=at, **fields)
    reason = EndedReason.REJECTED
    call_end(
        call_id=call.id,
        status="rejected",
        reason=reason,
        ended_at=at,
        errors=[(code, "It failed.")],
    )
    look()
    return call


def goes_well(account: Account, *, at: datetime = NOW, **fields: Any) -> Call:
    call = call_of(account, created_at=at, **fields)
    call_accept(call)
    reason = EndedReason.CALLER_HANGUP
    call_end(call_id=call.id, status="completed", reason=reason, ended_at=at)
    look()
    return call


def look() -> int:
    """Run the queued jobs; return their number."""
    found = jobs(incidents.CALL_TASK)
    for _, arguments in found:
        incidents.call_consider(**arguments)
    return len(found)


def subjects() -> list[str]:
    return [message.subject for message in sent()]


FAILING = f"Calls to {NUMBER} are failing: {TIMEOUT}"
WORKS = f"Calls to {NUMBER} work again"


def pass_a_day() -> None:
    for incident in Incident.objects.exclude(told_at=None):
        incident.told_at -= timedelta(days=1)
        incident.save()


def test_a_call_that_fails_is_told_once(alice: Account) -> None:
    fails(alice)
    assert subjects() == [FAILING]
    fails(alice)
    pass_a_day()
    fails(alice, at=NOW + timedelta(days=1))
    assert subjects() == [], "not again until a call went well"


def test_the_email_says_why_and_what_to_do(alice: Account) -> None:
    Account.objects.filter(pk=alice.pk).update(time_zone="America/New_York")
    call = fails(alice)
    (message,) = sent()
    text = " ".join(message.body.split())
    assert message.to == [alice.email]
    assert f"A call from {PERSON} to {NUMBER} failed on 5 Apr 2026, 05:30 EDT." in text
    assert "It failed." in text, "what exactly happened"
    assert TIMEOUT.remedy in text
    assert f"/dashboard/calls/{call.id}" in text
    assert "/docs/reasons-and-errors#call_start_timeout" in text


@pytest.mark.parametrize("caller", ["https://evil.example/fix", "anonymous", "sip:evil.example"])
def test_a_caller_who_is_no_number_is_not_quoted(alice: Account, caller: str) -> None:
    """Anybody who knows a number can send a webhook for it, with any caller."""
    fails(alice, caller_phone=caller)
    (message,) = sent()
    assert f"A call from an unknown number to {NUMBER} failed" in " ".join(message.body.split())
    assert caller not in message.body


def with_failed_tool(account: Account, *, at: datetime = NOW) -> Call:
    call = call_of(account, created_at=at)
    call_accept(call)
    call_note(call, EventKind.TOOL_FAILED, at=at, tool="t", message="The tool t failed.")
    run = {"toolName": "t", "status": "failed", "result": "", "timestamp": "2026-04-05"}
    call_end(
        call_id=call.id,
        status="completed",
        reason=EndedReason.CALLER_HANGUP,
        ended_at=at,
        outcome=Outcome("gpt-realtime-1.5", tool_calls=[run]),
    )
    look()
    return call


def test_a_tool_that_fails_in_a_completed_call(alice: Account) -> None:
    with_failed_tool(alice)
    (message,) = sent()
    assert message.subject == f"Calls to {NUMBER} have a failing tool: tool_failed"
    text = " ".join(message.body.split())
    assert f"A tool failed in a call from {PERSON} to {NUMBER}, which ended on" in text
    assert "The tool t failed." in text
    later = NOW + timedelta(hours=2)
    with_failed_tool(alice, at=later)
    assert subjects() == [], "not again until a call went well"
    goes_well(alice, at=later + timedelta(hours=1))
    assert subjects() == [WORKS]


def test_a_tool_that_fails_shows_that_calls_are_accepted_again(alice: Account) -> None:
    fails(alice)
    assert subjects() == [FAILING]
    with_failed_tool(alice, at=NOW + timedelta(hours=2))
    assert sorted(subjects()) == sorted(
        [WORKS, f"Calls to {NUMBER} have a failing tool: tool_failed"]
    )


def test_the_email_dates_the_call_that_it_is_about(alice: Account) -> None:
    """What may not be told on one day is told with a later call."""
    fails(alice)
    fails(alice, called_number=OTHER_NUMBER)
    assert subjects() == [FAILING], "one a day for this code"
    pass_a_day()
    fails(alice, at=NOW + timedelta(days=1), called_number=OTHER_NUMBER)
    (message,) = sent()
    assert "failed on 6 Apr 2026, 09:30 UTC." in " ".join(message.body.split())


def test_a_call_that_went_well_before_a_failure_ends_nothing(alice: Account) -> None:
    """Jobs run in any order."""
    fails(alice)
    fails(alice, at=NOW + timedelta(hours=3))
    sent()
    goes_well(alice, at=NOW + timedelta(hours=2))
    assert subjects() == []
    assert Incident.objects.filter(ended_at=None).exists()


def test_the_email_says_whose_words_it_has(alice: Account) -> None:
    fails(alice, model_error_code("model_not_found"))
    (message,) = sent()
    text = " ".join(message.body.split())
    assert "OpenAI has no such model" in text
    assert "OpenAI says: “It failed.”" in text


def test_an_outbound_call(alice: Account) -> None:
    fails(alice, direction="outbound", caller_phone=NUMBER, called_number=PERSON)
    (message,) = sent()
    assert message.subject == f"Calls from {NUMBER} are failing: {TIMEOUT}"
    assert f"A call from {NUMBER} to {PERSON} failed" in " ".join(message.body.split())


def test_a_code_is_told_once_a_day(alice: Account) -> None:
    """Whatever the number, and however often it works in between."""
    fails(alice)
    fails(alice, number=OTHER_NUMBER)
    goes_well(alice, at=NOW + timedelta(minutes=1))
    fails(alice, at=NOW + timedelta(minutes=2))
    assert subjects() == [FAILING]
    pass_a_day()
    fails(alice, number=OTHER_NUMBER, at=NOW + timedelta(minutes=3))
    assert subjects() == [f"Calls to {OTHER_NUMBER} are failing: {TIMEOUT}"]


def test_each_code_is_told(alice: Account) -> None:
    fails(alice)
    fails(alice, BAD_STATUS)
    assert subjects() == [FAILING, f"Calls to {NUMBER} are failing: {BAD_STATUS}"]


def test_a_day_has_a_limit(alice: Account) -> None:
    codes = list(ErrorCode)[: incidents.MOST_A_DAY + 1]
    for code in codes:
        fails(alice, code)
    assert len(subjects()) == incidents.MOST_A_DAY
    pass_a_day()
    fails(alice, codes[-1])
    assert subjects() == [f"Calls to {NUMBER} are failing: {codes[-1]}"]


def test_calls_that_go_well_again_after_an_hour_are_told(alice: Account) -> None:
    fails(alice)
    fails(alice, BAD_STATUS)
    sent()
    goes_well(alice, at=NOW + timedelta(hours=3))
    (message,) = sent()
    assert message.subject == WORKS
    assert "failed with call_start_timeout for 3 hours" in " ".join(message.body.split())
    assert not Incident.objects.filter(ended_at=None).exists()
    assert subjects() == [], "one message for all codes"


def test_calls_that_go_well_within_the_hour_are_not_told(alice: Account) -> None:
    fails(alice)
    sent()
    goes_well(alice, at=NOW + timedelta(minutes=59))
    assert subjects() == []
    assert not Incident.objects.filter(ended_at=None).exists()


def test_another_number_that_works_changes_nothing(alice: Account, bob: Account) -> None:
    fails(alice)
    sent()
    goes_well(alice, number=OTHER_NUMBER, at=NOW + timedelta(hours=3))
    goes_well(bob, at=NOW + timedelta(hours=3))
    assert subjects() == []
    assert Incident.objects.filter(ended_at=None).count() == 1


def test_each_account_is_told_of_its_own(alice: Account, bob: Account) -> None:
    fails(alice)
    fails(bob)
    assert [message.to for message in sent()] == [[alice.email], [bob.email]]


def test_a_call_that_goes_well_queues_nothing(alice: Account) -> None:
    call = call_of(alice)
    call_end(call_id=call.id, status="completed", reason=EndedReason.CALLER_HANGUP)
    assert look() == 0


@pytest.mark.parametrize("reason", [EndedReason.NO_ANSWER, EndedReason.REJECTED])
def test_a_call_that_was_not_answered_or_was_rejected_is_no_failure(
    alice: Account, reason: EndedReason
) -> None:
    call = call_of(alice)
    call_end(call_id=call.id, status="canceled", reason=reason)
    assert look() == 0


def test_a_test_call_is_never_told(alice: Account) -> None:
    fails(alice, call_sid=new_test_sid())
    assert subjects() == []
    assert not Incident.objects.exists()


def test_a_job_that_runs_twice_tells_once(alice: Account) -> None:
    call = fails(alice)
    incidents.call_consider(call.id)
    assert subjects() == [FAILING]
    goes_well(alice, at=NOW + timedelta(minutes=1))
    pass_a_day()
    incidents.call_consider(call.id)
    assert subjects() == [], "a later call went well"


def test_a_job_that_dies_has_told_nothing(alice: Account) -> None:
    call = call_of(alice)
    errors = [(TIMEOUT, "It failed.")]
    call_end(call_id=call.id, status="rejected", reason=EndedReason.REJECTED, errors=errors)

    @transaction.atomic
    def die() -> None:
        incidents.call_consider(call.id)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert subjects() == []
    look()
    assert subjects() == [FAILING]


def test_a_call_that_went_on_after_all_is_no_failure(alice: Account) -> None:
    call = call_of(alice)
    reason = EndedReason.ENGINE_LOST
    call_end(call_id=call.id, status="completed", reason=reason)
    Call.objects.update(ended_at=None, ended_reason="")
    look()
    assert subjects() == []


def test_emails_about_calls_can_be_turned_off(alice: Account) -> None:
    NotificationSettings.objects.create(account=alice, emails_calls=False)
    fails(alice)
    assert subjects() == []


def test_an_incident_without_calls_for_a_week_is_closed(alice: Account) -> None:
    fails(alice)
    Incident.objects.update(last_at=timezone.now() - incidents.STALE_AFTER)
    incidents.forget()
    assert not Incident.objects.filter(ended_at=None).exists()
