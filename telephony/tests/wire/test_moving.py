"""A call goes on in another engine: one that drains hands it over, one that dies leaves it."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from core.tests.long import only_in_all
from core.tests.waiting import until
from devtools.ports import free_ports
from sandbox.model import Call as CallTool
from sandbox.model import Say, Script
from sandbox.phone.faults import Faults
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN
from telephony import links
from telephony.db import in_database
from telephony.engines import calls_end_stale
from telephony.models import Call, CallProgress, SealedConversation, SealedPlan
from telephony.outcomes import opened
from telephony.services import call_end
from telephony.tests.wire.conftest import drain
from telephony.tests.wire.test_lost_engine import engine
from telephony.tests.wire.test_refusals import post, ticket_in
from telephony.voice import departures, webhooks
from telephony.voice.handover import conversation_key
from usage.models import TotalUsage, UsageRecord

ASKED = [CallTool("book_table", {}), Say("Table seven.")]
THANKED = Script(turns=[Say("You are welcome.")])


async def asked(world):
    """Place a call that has had a tool run, and is at a turn boundary."""
    ringing = await world.greeted()
    await ringing.person.say("Book a table")
    await ringing.person.hears("Table seven.")
    return ringing


async def test_a_call_moves_from_an_engine_that_drains(world, model, other, settings):
    async with model(Script(turns=ASKED)):
        ringing = await asked(world)
        async with model(THANKED) as openai:
            await drain(world, other, settings)
            assert not world.media.calls.ids
            await until(lambda: other.calls.ids)
            await ringing.person.say("Thank you")
            await ringing.person.hears("You are welcome.")
            ringing.person.hang_up()
            await ringing.journal.wait_for("ended", within=20)
            await asyncio.wait_for(other.calls.wait_until_none(), 10)
            (session,) = openai.sessions
    told = [item["item"] for item in session.received_of("conversation.item.create")]
    assert [item["type"] for item in told].count("function_call_output") == 1
    call = await in_database(Call.objects.get, call_sid=ringing.sid)
    assert (call.ended_reason, call.engine_id) == ("caller_hangup", other.calls.engine_id)
    end = await world.told("end")
    assert [line["text"] for line in end["transcript"]] == [
        "Hello.",
        "Book a table",
        "Table seven.",
        "Thank you",
        "You are welcome.",
    ]
    times = [line["timestamp"] for line in end["transcript"]]
    assert times == sorted(times)
    assert len(end["toolCalls"]) == len(world.backend.to("tool")) == 1
    assert not world.backend.to("error")
    record = await in_database(UsageRecord.objects.get)
    totals = await in_database(TotalUsage.objects.get)
    assert (totals.calls, record.duration_seconds) == (1, call.duration_seconds)
    timeline = await world.timeline(call)
    assert timeline.count("connected") == timeline.count("moved") == 1
    assert "status_ignored" not in timeline
    assert not await in_database(SealedConversation.objects.exists)
    assert not await in_database(SealedPlan.objects.exists)


async def test_a_call_that_cannot_wait_keeps_the_words_and_the_cost_of_its_last_response(
    world, model, other, settings, monkeypatch
):
    for name in ("SHORTEST_S", "LONGEST_S"):
        monkeypatch.setattr(departures, name, 0.0)
    async with model(Script(turns=[Say("One moment. " * 9, stall_at_ms=2_000)])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Tell me all")
        await ringing.person.hears("One moment.")
        async with model(THANKED):
            await drain(world, other, settings)
            await until(lambda: other.calls.ids)
            await ringing.person.hears("You are welcome.")
            ringing.person.hang_up()
            await ringing.journal.wait_for("ended", within=20)
            await asyncio.wait_for(other.calls.wait_until_none(), 10)
        [*_, last] = openai.sessions[0].sent_of("response.done")
    assert last["response"]["status"] == "cancelled"
    said = [line["text"] for line in (await world.told("end"))["transcript"]]
    assert said[:2] == ["Hello.", "Tell me all"]
    assert said[2].startswith("One moment.")
    assert said[3:] == ["You are welcome."]


async def test_twilio_may_repeat_its_request(world, model, other, settings):
    faults = Faults(answer_lost=frozenset({"action"}))
    async with model():
        ringing = await world.greeted(faults=faults)
        await drain(world, other, settings)
        await until(lambda: other.calls.ids)
        ringing.person.hang_up()
        await ringing.journal.wait_for("ended", within=20)
        await asyncio.wait_for(other.calls.wait_until_none(), 10)
    assert (await world.told("end"))["endedReason"] == "caller_hangup"


async def test_a_call_stays_if_there_is_no_other_engine(world, model):
    async with model(Script(turns=ASKED)) as openai:
        ringing = await asked(world)
        draining = asyncio.create_task(world.media.drain())
        call = await world.hang_up(ringing)
        await asyncio.wait_for(draining, 30)
    assert (call.ended_reason, len(openai.sessions)) == ("caller_hangup", 1)


async def test_an_engine_lets_go_of_a_call_that_another_one_has(world, model):
    async with model() as openai:
        ringing = await world.greeted(faults=Faults(lost=frozenset({"action"})))
        await in_database(Call.objects.update, engine_id="another")
        await asyncio.wait_for(world.media.calls.wait_until_none(), 10)
        await ringing.journal.wait_for("ended", within=20)
        await openai.wait_for(lambda server: server.sessions[0].is_closed)
    call = await in_database(Call.objects.get)
    assert (call.ended_at, call.audio_ended_at) == (None, None)


class TestBetweenTwoEngines:
    """The first one has handed the call over, and Twilio has not asked yet."""

    @pytest.fixture
    async def call(self, world, model, other, settings):
        faults = Faults(lost=frozenset({"action"}))
        async with model():
            ringing = await world.greeted(faults=faults)
            await drain(world, other, settings)
            await ringing.journal.wait_for("ended", within=20)
        twiml = ringing.journal.of("twiml")[0]
        self.url = twiml["attributes"]["action"]
        call = await in_database(Call.objects.get, call_sid=ringing.sid)
        assert (call.ended_at, call.engine_id) == (None, "")
        return call

    async def ask(self, world, call, *, status="in-progress", **options):
        """Ask as Twilio does; return the ticket for the next stream, or "" if there is none."""
        fields = {"CallSid": call.call_sid, "AccountSid": ACCOUNT_SID, "CallStatus": status}
        answer, twiml = await post(world, fields, url=options.pop("url", self.url), **options)
        assert answer == 200
        return ticket_in(twiml) if "ticket" in twiml else ""

    async def test_a_call_for_which_twilio_never_asks_is_ended(self, world, call):
        assert await in_database(calls_end_stale, call.held_until) == 0
        assert await in_database(calls_end_stale, call.held_until + timedelta(seconds=1)) == 1
        end = await world.told("end")
        assert end["endedReason"] == "engine_lost"
        assert [line["text"] for line in end["transcript"]] == ["Hello."]
        assert not await in_database(SealedConversation.objects.exists)

    async def test_the_caller_may_hang_up(self, world, call):
        assert not await self.ask(world, call, status="completed")
        soon = timezone.now() + timedelta(seconds=6)
        assert await in_database(calls_end_stale, soon) == 1
        end = await world.told("end")
        assert end["endedReason"] == "caller_hangup"
        ended = await in_database(Call.objects.get, pk=call.pk)
        assert ended.ended_at == call.last_seen_at

    async def test_the_engine_that_had_it_knows_better_when_the_caller_hung_up(self, world, call):
        assert not await self.ask(world, call, status="completed")
        assert await in_database(calls_end_stale, timezone.now()) == 0
        hung_up_at = call.last_seen_at + timedelta(seconds=1.5)
        end = partial(call_end, call_id=call.pk, status="completed", reason="caller_hangup")
        assert await in_database(partial(end, ended_at=hung_up_at, held_by="the first"))
        ended = await in_database(Call.objects.get, pk=call.pk)
        assert ended.ended_at == hung_up_at

    async def test_a_stream_that_cannot_be_opened_is_retried_for_a_while(self, world, call):
        tickets = [await self.ask(world, call) for _ in range(2)]
        assert len(set(tickets)) == 2
        seen_at = call.created_at - timedelta(seconds=30)
        await in_database(Call.objects.update, engine_id="dead", last_seen_at=seen_at)
        assert await in_database(calls_end_stale, timezone.now()) == 0
        await in_database(SealedPlan.objects.update, expires_at=timezone.now())
        assert not await self.ask(world, call)
        await in_database(calls_end_stale, timezone.now())  # the engine's own sweep may be first
        await until(lambda: in_database(Call.objects.exclude(ended_at=None).exists))

    async def test_it_waits_longer_for_the_database_than_a_call_that_begins(
        self, world, call, monkeypatch
    ):
        monkeypatch.setattr(webhooks, "_VISIT_WITHIN_S", 0.0)
        assert await self.ask(world, call)

    async def test_only_twilio_gets_a_ticket(self, world, call):
        link, _, _ = self.url.partition("?")
        wrong = links.after_stream_url(call.pk, conversation_key(f"{call.pk}.{'A' * 43}="))
        assert not await self.ask(world, call, token="of-somebody-else")
        assert not await self.ask(world, call, url=link)
        assert not await self.ask(world, call, url=wrong)
        assert not await self.ask(world, call, url=f"{link}?conversation_key=x")
        assert await in_database(Call.objects.live().exists)

    async def test_the_table_does_not_tell_what_was_said(self, call):
        (kept,) = await in_database(list, SealedConversation.objects.all())
        for secret in (AUTH_TOKEN, "Hello."):
            assert secret.encode() not in bytes(kept.ciphertext)


@only_in_all("an engine of its own")
async def test_a_call_goes_on_if_its_engine_is_killed(world, model, settings):
    (port,) = free_ports(1)
    ours, theirs = settings.MEDIA_STREAM_URL, f"ws://127.0.0.1:{port}/media"
    async with (
        model(Script(turns=ASKED)) as first,
        engine(first.url, MEDIA_PORT=f"{port}") as (process, _),
    ):
        settings.MEDIA_STREAM_URL = theirs
        ringing = await asked(world)
        settings.MEDIA_STREAM_URL = ours
        call = await in_database(Call.objects.get, call_sid=ringing.sid)
        await until(lambda: in_database(knows, call, "Table seven."))
        async with model(THANKED):
            os.killpg(process.pid, signal.SIGKILL)
            await until(lambda: world.media.calls.ids)
            await ringing.person.say("Thank you")
            await ringing.person.hears("You are welcome.")
            call = await world.hang_up(ringing)
    end = await world.told("end")
    assert end["endedReason"] == "caller_hangup"
    assert [line["text"] for line in end["transcript"]] == [
        "Hello.",
        "Book a table",
        "Table seven.",
        "Thank you",
        "You are welcome.",
    ]
    assert len(end["toolCalls"]) == len(world.backend.to("tool")) == 1
    assert not world.backend.to("error")
    assert (await in_database(TotalUsage.objects.get)).calls == 1
    assert "moved" in await world.timeline(call)


def knows(call, text):
    """Return True if the call's engine has stored that this was said."""
    kept = CallProgress.objects.filter(call=call).first()
    return kept is not None and text in str(opened(kept).transcript)
