"""A call outlives its media stream: one that breaks, even unseen, or that never opened."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from html import unescape

import aiohttp
import pytest
from django.db import connection, transaction
from django.utils import timezone

from core.tests.waiting import until
from sandbox.model import Say, Script
from sandbox.tests.customer import ACCOUNT_SID
from telephony.db import in_database
from telephony.engine.twilio_codec import MULAW, StreamStarted
from telephony.links import conversation_key_in
from telephony.models import Call, SealedConversation, SealedPlan
from telephony.tests.wire.conftest import drain
from telephony.tests.wire.test_forgeries import start
from telephony.tests.wire.test_refusals import form, post, stream, ticket_in
from telephony.voice.caller_side import redeem_ticket
from telephony.voice.handover import MOVES_WITHIN, open_conversation, seal_moved
from telephony.voice.websocket import POLICY_VIOLATION
from usage.models import TotalUsage

FRAME = {"event": "media", "media": {"payload": "f39/"}}


async def texts(world):
    return [line["text"] for line in (await world.told("end"))["transcript"]]


async def test_a_call_goes_on_in_another_stream_if_its_own_breaks(world, model):
    async with model(Script(turns=[Say("Table seven.")])):
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await ringing.person.hears("Table seven.")
        [runner] = world.media.calls._runners.values()
        await until(lambda: runner.giving_out.may_begin(is_late=False))
        async with model(Script(turns=[Say("You are welcome.")])):
            ringing.stream.drop()
            await until(lambda: len(ringing.journal.of("stream-connected")) == 2)
            await ringing.person.say("Thank you")
            await ringing.person.hears("You are welcome.")
            call = await world.hang_up(ringing)
    assert (call.ended_reason, call.error_code) == ("caller_hangup", "")
    expected = ["Hello.", "Book a table", "Table seven.", "Thank you", "You are welcome."]
    assert await texts(world) == expected
    assert not world.backend.to("error")
    assert (await in_database(TotalUsage.objects.get)).calls == 1
    moved = await in_database(call.events.get, kind="moved")
    assert moved.detail["why"] == "stream_broken"
    assert "status_ignored" not in await world.timeline(call)


async def test_what_is_said_while_a_call_is_handed_over_is_not_lost(world, model, other, settings):
    async with model(Script(turns=[Say("Of course.")])):
        ringing = await world.greeted()
        call = await in_database(Call.objects.get)
        async with locked(call):
            draining = asyncio.create_task(drain(world, other, settings))
            await until(lambda: in_database(is_waited_for, "held_until"))
            await ringing.person.say("May I ask something?")
            await ringing.person.hears("Of course.")
        await draining
        await until(lambda: other.calls.ids)
        ringing.person.hang_up()
        await ringing.journal.wait_for("ended", within=20)
        await asyncio.wait_for(other.calls.wait_until_none(), 10)
    assert await texts(world) == ["Hello.", "May I ask something?", "Of course."]
    call = await in_database(Call.objects.get)
    assert (call.ended_reason, call.engine_id) == ("caller_hangup", other.calls.engine_id)


@asynccontextmanager
async def locked(call):
    """Keep others from writing to the call's row."""
    is_locked, may_go = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            Call.objects.select_for_update().get(pk=call.pk)
            is_locked.set()
            may_go.wait(30)

    holding = asyncio.create_task(in_database(hold))
    await until(is_locked.is_set)
    try:
        yield
    finally:
        may_go.set()
        await holding


def is_waited_for(column):
    """Return True if an update of that column waits for the lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s",
            [f'%"{column}" = %'],
        )
        return cursor.fetchone() is not None


async def test_a_stream_that_breaks_while_its_engine_takes_the_call_back_gives_it_out(world, model):
    """A drain gave the call out, but then the agent spoke: it stays, until its stream breaks."""
    async with model():
        caller = await Caller.calls(world)
        async with caller.stream(caller.ticket) as first:
            await speaks(first)
            [runner] = world.media.calls._runners.values()
            call = await in_database(Call.objects.get)
            await in_database(Call.objects.update, engine_id="")
            async with locked(call):
                runner.giving_out.begin("engine_stopping")
                await until(lambda: in_database(is_waited_for, "engine_id"))
                await first.close(code=1011)
                await until(lambda: runner.is_closed)
            await asyncio.wait_for(world.media.calls.wait_until_none(), 10)
            async with caller.stream(await caller.ask()) as second:
                await until(lambda: world.media.calls.ids)
                call = await stops(world, second)
    moved = await in_database(call.events.get, kind="moved")
    assert (call.ended_reason, moved.detail["why"]) == ("caller_hangup", "stream_broken")


async def test_a_stream_that_could_not_be_opened_is_opened_again(world, model, settings):
    address, settings.MEDIA_STREAM_URL = settings.MEDIA_STREAM_URL, "ws://127.0.0.1:1/media"
    async with model():
        ringing = world.ring()
        await ringing.journal.wait_for("error")
        settings.MEDIA_STREAM_URL = address
        await ringing.person.hears("Hello.")
        call = await world.hang_up(ringing)
    assert call.ended_reason == "caller_hangup"
    timeline = await world.timeline(call)
    assert timeline.count("connected") == 1
    assert "moved" not in timeline
    assert "status_ignored" not in timeline


async def test_a_stream_that_cannot_be_opened_is_not_tried_for_ever(world, model):
    async with model():
        call = await Caller.calls(world)
        assert await call.ask()
        kept = await in_database(SealedPlan.objects.get)
        assert kept.expires_at <= timezone.now() + MOVES_WITHIN
        await in_database(SealedPlan.objects.update, expires_at=timezone.now())
        assert not await call.ask()


class Caller:
    """A call to Alice's number, as Twilio makes it: step by step."""

    def __init__(self, world, sid, twiml):
        self.world, self.sid, self.ticket = world, sid, ticket_in(twiml)
        self.action = unescape(twiml.split('action="')[1].split('"')[0])

    @classmethod
    async def calls(cls, world):
        fields = form()
        _, twiml = await post(world, fields)
        return cls(world, fields["CallSid"], twiml)

    async def ask(self, **options):
        """Ask what to do after the stream; return the next ticket, or "" if there is none."""
        fields = form(CallSid=self.sid, CallStatus="in-progress")
        status, twiml = await post(self.world, fields, url=self.action, **options)
        return ticket_in(twiml) if status == 200 and "ticket" in twiml else ""

    @asynccontextmanager
    async def stream(self, ticket):
        """Open a stream, and wait until the agent speaks or responds."""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{self.world.media_port}/media") as socket,
        ):
            await socket.send_json(start(self.sid, ticket))
            yield socket


async def is_closed(socket):
    async with asyncio.timeout(10):
        while not socket.closed:
            await socket.receive()


async def stops(world, socket):
    """End the stream as Twilio does when the caller hangs up."""
    await socket.send_json({"event": "stop"})
    await is_closed(socket)
    await asyncio.wait_for(world.media.calls.wait_until_none(), 10)
    return await in_database(Call.objects.get)


async def speaks(socket):
    async with asyncio.timeout(10):
        assert (await socket.receive_json())["event"] == "media"


async def test_a_call_whose_engine_was_killed_before_it_stored_anything_begins_anew(world, model):
    async with model() as openai:
        caller = await Caller.calls(world)
        ticket = {"ticket": caller.ticket}
        started = StreamStarted("MZ1", caller.sid, ACCOUNT_SID, ticket, MULAW)
        await in_database(redeem_ticket, started, "", "killed", timezone.now())
        async with caller.stream(await caller.ask()) as socket:
            await speaks(socket)
            call = await stops(world, socket)
        told = [session.received_of("conversation.item.create") for session in openai.sessions]
        assert not any(told)
    assert call.ended_reason == "caller_hangup"
    assert await texts(world) == ["Hello."]


class TestAStreamThatNobodySawBreak:
    """Twilio asks what to do next, and our socket is still open."""

    async def test_it_is_given_up_if_it_is_silent(self, world, model):
        async with model():
            caller = await Caller.calls(world)
            async with caller.stream(caller.ticket) as first:
                await speaks(first)
                async with caller.stream(await caller.ask()) as second:
                    await is_closed(first)
                    await until(lambda: world.media.calls.ids)
                    call = await stops(world, second)
        assert call.ended_reason == "caller_hangup"
        assert "moved" in await world.timeline(call)

    async def test_it_stays_if_audio_arrives(self, world, model):
        async with model():
            caller = await Caller.calls(world)
            async with caller.stream(caller.ticket) as socket:
                await speaks(socket)
                asking = asyncio.create_task(caller.ask())
                while not asking.done():
                    await socket.send_json(FRAME)
                    await asyncio.sleep(0.02)  # Twilio's pace
                assert not await asking
                assert not socket.closed
                call = await stops(world, socket)
        assert "moved" not in await world.timeline(call)

    @pytest.mark.parametrize("options", [{"token": "of-another-account"}, {"headers": {}}])
    async def test_only_twilio_has_it_given_up(self, world, model, options):
        async with model():
            caller = await Caller.calls(world)
            async with caller.stream(caller.ticket) as socket:
                await speaks(socket)
                assert not await caller.ask(**options)
                assert world.media.calls.ids
                await stops(world, socket)

    async def test_another_stream_of_the_call_takes_its_place(self, world, model):
        """Another process has asked for it: then this one ends no other stream's record."""
        async with model():
            caller = await Caller.calls(world)
            async with caller.stream(caller.ticket) as first:
                await speaks(first)
                ticket = await in_database(asked_elsewhere, caller)
                async with caller.stream(ticket) as second:
                    await is_closed(first)
                    await stops(world, second)
        assert not await in_database(SealedConversation.objects.exists)

    async def test_the_stream_that_another_one_has_replaced_does_not_give_the_call_out(
        self, world, model
    ):
        """It notices its end late: then no engine held the call, and a sweep ended it."""
        async with model():
            caller = await Caller.calls(world)
            async with caller.stream(caller.ticket) as first:
                await speaks(first)
                [replaced] = world.media.calls._runners.values()
                async with caller.stream(await in_database(asked_elsewhere, caller)) as second:
                    await is_closed(first)
                    await replaced.giving_out._give_out("stream_broken")
                    call = await in_database(Call.objects.get)
                    held = (call.engine_id, call.audio_ended_at)
                    assert held == (world.media.calls.engine_id, None)
                    await stops(world, second)


class TestWhoIsNotTwilio:
    async def test_only_the_last_ticket_opens_a_stream_once_and_while_the_call_lasts(
        self, world, model
    ):
        async with model():
            caller = await Caller.calls(world)
            again, last = await caller.ask(), await caller.ask()
            for ticket in (caller.ticket, again):
                assert await stream(world, caller.sid, ticket) == POLICY_VIOLATION
            async with caller.stream(last) as socket:
                await speaks(socket)
                assert await stream(world, caller.sid, last) == POLICY_VIOLATION
                unused = await in_database(asked_elsewhere, caller)
                await stops(world, socket)
            assert await stream(world, caller.sid, unused) == POLICY_VIOLATION
            assert not await caller.ask()
            assert not world.media.calls.ids

    async def test_the_link_of_one_call_says_nothing_of_another(self, world, model):
        async with model():
            mine, theirs = await Caller.calls(world), await Caller.calls(world)
            own, mine.sid = mine.sid, theirs.sid
            assert not await mine.ask()
            mine.sid = own
            assert not await mine.ask(token="of-another-account")
            for caller in (mine, theirs):
                async with caller.stream(caller.ticket) as socket:
                    await speaks(socket)
                    await socket.send_json({"event": "stop"})
            await asyncio.wait_for(world.media.calls.wait_until_none(), 10)


def asked_elsewhere(caller):
    """Ask in another process, which does not know that this one holds the call."""
    call = Call.objects.get()
    key = conversation_key_in(caller.action)
    conversation = open_conversation(call, key)
    return seal_moved(call, key, conversation, timezone.now() + MOVES_WITHIN)
