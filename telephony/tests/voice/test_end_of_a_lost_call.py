"""The end of a call that was ended as lost, and is resumed by two at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from core.tests.waiting import until_it_waits
from telephony.admission import account_lock
from telephony.models import Call
from telephony.outcomes import Outcome
from telephony.services import call_accept, call_connect, call_end_lost, call_resume
from telephony.voice.ending import End, end_call
from telephony.voice.recorder import Entries

TALKED = timedelta(seconds=20)


@pytest.mark.django_db(transaction=True)
def test_it_is_the_end_that_the_caller_made(alice: Account) -> None:
    call = a_lost_call(alice)
    end = End(
        call=call,
        reason="caller_hangup",
        ended_at=call.answered_at + TALKED,
        outcome=lambda: Outcome("gpt-realtime-1.5"),
        errors=[],
        entries=Entries(),
        engine_id="engine",
    )
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            account_lock(alice.pk)
            ending = pool.submit(end_it, end)
            until_it_waits(ending)
            assert call_resume(call_id=call.pk)
        ending.result(timeout=10)
    call.refresh_from_db()
    assert (call.ended_reason, call.duration_seconds) == ("caller_hangup", 20)


def a_lost_call(account: Account) -> Call:
    call = Call.objects.create(
        account=account,
        call_sid="CA" + "0" * 32,
        direction="inbound",
        status="ringing",
        caller_phone="+19805550000",
        called_number="+15551234567",
        on_call_end_url="https://backend.example/end",
    )
    call_accept(call)
    call_connect(call, now=timezone.now() - timedelta(minutes=1), engine_id="engine")
    call_end_lost(call_id=call.pk, ended_at=call.answered_at)
    return call


def end_it(end: End) -> None:
    try:
        end_call(end)
    finally:
        connection.close()
