"""The outcome of a call in progress, on its way to the database."""

from __future__ import annotations

import pytest
from django.utils import timezone

from core.tests.waiting import until
from telephony.callbacks.attempts import Failure, Result
from telephony.db import in_database
from telephony.models import Call, CallProgress
from telephony.outcomes import Outcome, opened
from telephony.voice.recorder import MOST_FAILED, Entries, Recorder

HELLO = {"role": "assistant", "text": "Hello.", "timestamp": "2026-11-01T00:00:00.000Z"}
BYE = {"role": "user", "text": "Bye.", "timestamp": "2026-11-01T00:00:09.000Z"}


@pytest.fixture
async def call(transactional_db, alice):
    return await in_database(
        Call.objects.create,
        account=alice,
        call_sid="CA" + "0" * 32,
        direction="inbound",
        status="in-progress",
        last_seen_at=timezone.now(),
    )


async def test_a_turn_is_written_without_a_line_of_the_timeline(call):
    transcript = []
    recorder = Recorder(
        call.id, call.account_id, lambda: lambda: Outcome(transcript=list(transcript))
    )
    for line in (HELLO, BYE):
        transcript.append(line)
        recorder.changed()
        await until(lambda: in_database(is_kept, call, transcript))
    assert await recorder.close() == Entries()


def is_kept(call, transcript):
    progress = CallProgress.objects.filter(call=call).first()
    return progress is not None and opened(progress).transcript == transcript


async def test_the_first_failed_requests_of_a_call_are_kept(call):
    recorder = Recorder(call.id, call.account_id, lambda: Outcome)
    for number in range(MOST_FAILED + 5):
        recorder.add_failed(Failure("onToolCall", "", Result(f"{number}"), "book"))
    await until(lambda: in_database(lambda: call.failed_requests.count() == MOST_FAILED))
    recorder.add_failed(Failure("onToolCall", "", Result("more"), "book"))
    assert await recorder.close() == Entries()
    kept = await in_database(lambda: [each.result for each in call.failed_requests.order_by("id")])
    assert kept == [f"{number}" for number in range(MOST_FAILED)]


async def test_what_is_not_written_at_the_end_is_given_back(call):
    recorder = Recorder(call.id, call.account_id, lambda: Outcome)
    failure = Failure("onToolCall", "", Result("500"), "book")
    recorder.add_failed(failure)
    assert await recorder.close() == Entries(failed=[failure])
