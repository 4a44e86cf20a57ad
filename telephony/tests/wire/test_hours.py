"""Calls that last for hours: sessions of the model follow one another.

The event loop of the engine, the phone and the model tells a time that the test moves on. Nobody
speaks meanwhile, and nothing is on its way: the phone sends no audio of these hours.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from core.tests.long import only_in_all
from core.tests.waiting import until
from sandbox.model import Call as CallTool
from sandbox.model import Script
from sandbox.model.server import SessionRecord
from telephony.db import in_database
from telephony.engine.audio import audio_size
from telephony.engine.timeline import TROUBLE
from telephony.models import Call, CallProgress, SealedConversation, SealedPlan
from telephony.tests.wire.conftest import world_of
from usage.models import TotalUsage, UsageRecord

pytestmark = only_in_all("the audio of thirty turns")

TURNS = 30
PAUSE_S = 260
TWO_HOURS_AND_TEN_MINUTES_S = 7_800
assert TURNS * PAUSE_S == TWO_HOURS_AND_TEN_MINUTES_S


class MovableTime(asyncio.SelectorEventLoop):
    """A loop whose time can be moved on."""

    _ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    async def move_on(self, seconds: float) -> None:
        """Return once everything that is due then has begun."""
        self._ahead += seconds
        await asyncio.sleep(0)


@dataclass
class Talk:
    """What became of a call, its timeline, and for how long the test talked."""

    sessions: list[SessionRecord]
    end: dict[str, Any]
    call: Call
    events: list[tuple[str, dict[str, Any]]]
    record: UsageRecord
    lasted_s: float

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@pytest.fixture
def talk(transactional_db, alice, settings, model):
    """Return a function that has a caller talk to the model for 2 h 10 min.

    Its options are those of the model's server.
    """

    def run(name: str, **options: Any) -> Talk:
        with asyncio.Runner(loop_factory=MovableTime) as runner:
            return runner.run(talk_for_hours(alice, settings, model, name, options))

    return run


async def talk_for_hours(alice, settings, model, name, options):
    loop = asyncio.get_running_loop()
    ahead = time.time() - loop.time()
    # Each session of the model begins with a tool call.
    script = Script(turns=[CallTool("book_table", {})])
    async with (
        world_of(alice, settings) as world,
        model(script, clock=lambda: loop.time() + ahead, **options) as openai,
    ):
        limits = {"maxDurationSeconds": 14_100, "inactivityTimeoutMs": 300_000}
        world.backend.plan |= limits | {"model": name}
        began = loop.time()
        ringing = world.ring()
        assert await ringing.person.listen() == "Hello."
        (runner,) = world.media.calls._runners.values()
        for number in range(TURNS):
            await until(lambda: runner._session.is_at_rest)
            await loop.move_on(PAUSE_S)
            await ringing.person.say(f"Question {number}")
            assert await ringing.person.listen()
        call = await world.hang_up(ringing)
        lasted_s = loop.time() - began
        end = await world.told("end")
        assert [len(world.backend.to(name)) for name in ("start", "tool", "error")] == [1, 3, 0]
    return Talk(
        openai.sessions,
        end,
        call,
        await in_database(list, call.events.order_by("at", "id").values_list("kind", "detail")),
        await in_database(UsageRecord.objects.get),
        lasted_s,
    )


def assert_it_is_one_call(talk: Talk) -> None:
    """All of it is in one record, in order, whichever session of the model said it."""
    assert len(talk.sessions) == 3
    renewals = [detail for kind, detail in talk.events if kind == "model_renewed"]
    assert renewals == [{"why": "age"}, {"why": "age"}]
    assert not TROUBLE.intersection(talk.kinds)
    for once in ("received", "accepted", "connected", "ended"):
        assert talk.kinds.count(once) == 1
    lines = talk.end["transcript"]
    assert lines[0]["text"] == "Hello."
    turns = turns_in(lines[1:])
    assert [asked for asked, _ in turns] == [f"Question {number}" for number in range(TURNS)]
    assert sum("table 7" in answer for _, answer in turns) == len(talk.end["toolCalls"]) == 3
    assert all(asked in answer or "table 7" in answer for asked, answer in turns)
    times = [datetime.fromisoformat(line["timestamp"]) for line in lines]
    assert times == sorted(times)
    assert times[-1] - times[0] >= timedelta(seconds=TWO_HOURS_AND_TEN_MINUTES_S)
    assert talk.end["endedReason"] == "caller_hangup"


def turns_in(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return each question, and all that the agent said to it."""
    turns: list[tuple[str, str]] = []
    for line in lines:
        if line["role"] == "user":
            turns.append((line["text"], ""))
        else:
            asked, answer = turns.pop()
            turns.append((asked, f"{answer}{line['text']}"))
    return turns


def assert_all_of_it_is_billed(talk: Talk) -> None:
    """To the second, and once."""
    billed_s = math.ceil((talk.call.ended_at - talk.call.billed_from).total_seconds())
    assert TWO_HOURS_AND_TEN_MINUTES_S <= billed_s <= math.ceil(talk.lasted_s)
    assert talk.record.minutes == math.ceil(billed_s / 60)
    assert talk.end["durationSeconds"] == talk.record.duration_seconds
    assert TotalUsage.objects.get().calls == Call.objects.count() == 1


def assert_nothing_is_kept() -> None:
    for sealed in (SealedPlan, SealedConversation, CallProgress):
        assert not sealed.objects.exists()


def told(session: SessionRecord) -> str:
    """Return what a session of a Realtime model was told before it was asked anything."""
    return str([each["item"] for each in session.received_of("conversation.item.create")])


def test_a_realtime_model(talk):
    talk = talk("gpt-realtime-1.5")
    assert_it_is_one_call(talk)
    assert_all_of_it_is_billed(talk)
    assert_nothing_is_kept()
    for session in talk.sessions[1:]:
        assert all(text in told(session) for text in ("Hello.", "Question 0", "table"))
    cost = sum(realtime_cost(each) for each in talk.sessions)
    assert talk.record.openai_cost == cost.quantize(Decimal("0.000001"))


def realtime_cost(session: SessionRecord) -> Decimal:
    """Return USD for what a session reported, with the prices of gpt-realtime-1.5."""
    cost = Decimal(0)
    for event in session.sent_of("response.done"):
        usage = event["response"]["usage"]
        given, made = usage["input_token_details"], usage["output_token_details"]
        cached = given["cached_tokens_details"]
        cost += 4 * (given["text_tokens"] - cached["text_tokens"]) + 16 * made["text_tokens"]
        cost += 32 * (given["audio_tokens"] - cached["audio_tokens"]) + 64 * made["audio_tokens"]
        cost += Decimal("0.40") * (cached["text_tokens"] + cached["audio_tokens"])
    cost /= 1_000_000
    for event in session.sent_of("conversation.item.input_audio_transcription.completed"):
        cost += Decimal(str(event["usage"]["seconds"])) / 60 * Decimal("0.0045")
    return cost


def test_a_live_model(talk):
    talk = talk("gpt-live-1.1", lifetime_s=3_000)  # it says so itself
    assert_it_is_one_call(talk)
    assert_all_of_it_is_billed(talk)
    assert_nothing_is_kept()
    for session in talk.sessions[1:]:
        past = str(session.received[0]["session"]["input"])
        assert all(text in past for text in ("Hello.", "Question 0", "table"))
    tokens = sum(backend_cost(each) for each in talk.sessions)
    billed_s = (talk.record.openai_cost - tokens) * 60 / Decimal("0.05")
    heard_s = sum(seconds_heard(each) for each in talk.sessions)
    assert heard_s - len(talk.sessions) <= billed_s <= heard_s


def backend_cost(session: SessionRecord) -> Decimal:
    """Return USD for what the backend of a Live session reported."""
    cost = Decimal(0)
    for event in session.sent_of("response.event"):
        if event["event"]["type"] == "response.completed":
            usage = event["event"]["response"]["usage"]
            cached = usage["input_tokens_details"]["cached_tokens"]
            cost += Decimal("0.10") * (usage["input_tokens"] - cached)
            cost += Decimal("0.01") * cached + Decimal("0.50") * usage["output_tokens"]
    return cost / 1_000_000


def seconds_heard(session: SessionRecord) -> float:
    appended = session.received_of("session.input_audio.append")
    return sum(audio_size(each["audio"].encode()) for each in appended) / 8_000
