"""Calls with a Live model, from the first ring to the last callback.

OpenAI's types judge every message of both sides. The pure tests have every branch.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from core.tests.long import only_in_all
from core.tests.waiting import until
from devtools.ports import free_ports
from sandbox.model import Call as CallTool
from sandbox.model import Drop, Hold, Say, Script
from sandbox.model.server import LIVE_PATH
from sandbox.phone.callees import Callee
from sandbox.phone.person import Step
from sandbox.tests.live import DELTA, judge, judge_client
from telephony.db import in_database
from telephony.engine import answers
from telephony.engine.audio import audio_size
from telephony.engine.codecs.live.work import LONGEST_BYTES
from telephony.models import Call
from telephony.tests.wire.conftest import CALLEE, drain
from telephony.tests.wire.test_lost_engine import engine
from telephony.tests.wire.test_moving import knows
from usage.models import TotalUsage, UsageRecord

APPEND = "session.input_audio.append"
STORY = "This is a very long story about a little dog that nobody wants to hear to its end"
#: USD: a minute of the session, and a token of the backend.
A_MINUTE, INPUT, CACHED, OUTPUT = 0.05, 0.10e-6, 0.01e-6, 0.50e-6


@pytest.fixture
def speed():
    """For longer calls: at ten times its speed, the phone would soon send more than is read."""
    return 6.0


@pytest.fixture
def live(world, model, speed, monkeypatch):
    """Serve a Live model as ``model`` does; afterwards, judge what was said."""
    monkeypatch.setattr(answers, "VOICE_S", answers.VOICE_S / speed)
    world.backend.plan["model"] = "gpt-live-1.1"

    @asynccontextmanager
    async def serve(*turns):
        async with model(Script(turns=turns)) as openai:
            yield openai
        for session in openai.sessions:
            for event in session.received:
                if event["type"] != APPEND:
                    judge_client(event)
            for event in session.sent:
                if event["type"] != DELTA:
                    judge(event)

    return serve


async def greeted(world):
    ringing = world.ring()
    await hears(ringing, "Hello.")
    return ringing


async def hears(ringing, text):
    """Wait until the agent has said it.

    The phone's time is faster than the clock, and a Live model's audio comes just in time: on a
    busy machine there are gaps in it, and a letter that a gap divides is heard twice.
    """
    line = ringing.line
    assert await line.until(lambda: once(text) in once(line.heard), within=300), line.heard


def once(text):
    return re.sub(r"(.)\1+", r"\1", text)


def texts(end):
    return [(line["role"], line["text"]) for line in end["transcript"]]


def outputs(session):
    """Return the results that the backend got, in order."""
    items = [event["item"] for event in session.received_of("response.item.create")]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


def backend_cost(*sessions):
    used = [
        event["event"]["response"]["usage"]
        for session in sessions
        for event in session.sent_of("response.event")
        if event["event"]["type"] == "response.completed"
    ]
    cached = sum(each["input_tokens_details"]["cached_tokens"] for each in used)
    given = sum(each["input_tokens"] for each in used)
    made = sum(each["output_tokens"] for each in used)
    assert min(given, made) > 0
    return (given - cached) * INPUT + cached * CACHED + made * OUTPUT


def heard_s(session):
    """Return the seconds of the caller's audio that the model has got."""
    appended = session.received_of(APPEND)
    return sum(audio_size(each["audio"].encode()) for each in appended) / 8_000


async def test_tools_and_what_they_cost(world, live):
    """One, two at once, a slow one, one that fails, and one that says more than fits."""
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def tool(body):
        match body["arguments"]["how"]:
            case "slow":
                is_asked.set()
                await may_answer.wait()
            case "badly":
                return web.Response(status=500)
            case "long":
                return web.json_response({"result": "x" * (LONGEST_BYTES + 1)})
        return web.json_response({"result": body["arguments"]})

    def use(how):
        return CallTool("book_table", {"how": how})

    world.backend.tool = tool
    turns = [
        *(use("well"), Say("Table seven.")),
        *((use("twice"), use("at once")), Say("Both are booked.")),
        *(use("slow"), Say("That took a while."), Say("I am here.")),
        *(use("badly"), Say("It did not work.")),
        *(use("long"), Say("That was too much.")),
    ]
    async with live(*turns) as openai:
        ringing = await greeted(world)
        person = ringing.person
        for wish, said in [("One table", "Table seven."), ("Two tables", "Both are booked.")]:
            await person.say(wish)
            await hears(ringing, said)
        await person.say("A slow table")
        await asyncio.wait_for(is_asked.wait(), 10)
        await person.say("Are you there")
        may_answer.set()
        await hears(ringing, "That took a while.")
        await hears(ringing, "I am here.")
        for wish, said in [("A bad table", "not work."), ("A long table", "too much.")]:
            await person.say(wish)
            await hears(ringing, said)
        await world.hang_up(ringing)
    (session,) = openai.sessions
    assert (session.path, session.query) == (LIVE_PATH, {})
    assert session.headers["Authorization"] == "Bearer sk-of-a-test"
    results = [json.loads(output) for output in outputs(session)]
    assert [result.get("how") for result in results[:4]] in (
        ["well", "twice", "at once", "slow"],
        ["well", "at once", "twice", "slow"],
    )
    assert "HTTP status 500" in results[4]["error"]
    assert results[5] == {"error": "The result is too long."}
    assert len(session.received_of("response.create")) == 5
    end = await world.told("end")
    assert end["model"] == "gpt-live-1.1"
    assert [run["status"] for run in end["toolCalls"]].count("succeeded") == 5
    said = texts(end)
    assert said[:2] == [("assistant", "Hello."), ("user", "One table")]
    assert [text for role, text in said if role == "user"] == [
        *("One table", "Two tables", "A slow table", "Are you there", "A bad table"),
        "A long table",
    ]
    assert said[-1] == ("assistant", "That was too much.")
    record = await in_database(UsageRecord.objects.get)
    billed_s = (float(record.openai_cost) - backend_cost(session)) * 60 / A_MINUTE
    (closed,) = session.sent_of("session.closed")
    assert billed_s == pytest.approx(closed["usage"]["seconds"], abs=0.01)
    assert billed_s == pytest.approx(heard_s(session), abs=0.11)  # it hears steps of 0.1 s


async def test_interruption_keys_and_a_goodbye(world, live):
    turns = [
        Say(STORY),
        Say("All right."),
        *(CallTool("send_dtmf", {"digits": "12"}), Say("I pressed them.")),
        *(CallTool("end_call", {}), Say("It was a pleasure. Goodbye.")),
    ]
    async with live(*turns) as openai:
        ringing = await greeted(world)
        person = ringing.person
        await person.say("Tell me everything")
        await person.interrupt("Stop")
        await hears(ringing, "All right.")
        await person.press("42#")
        await hears(ringing, "I pressed them.")
        await person.say("That is all")
        call = await world.over(ringing)
    (session,) = openai.sessions
    assert once(STORY) not in once(ringing.line.heard)
    assert once("It was a pleasure. Goodbye.") in once(ringing.line.heard)
    assert call.ended_reason == "agent_hangup"
    typed, pressed, ended = session.received_of("response.item.create")
    assert typed["item"]["content"][0]["text"] == "[The caller pressed on the keypad: 42#]"
    assert pressed["item"]["output"] == '{"sent": "12"}'
    assert '"ok": true' in ended["item"]["output"]
    assert [tone["digit"] for tone in ringing.journal.of("key-tone")] == ["1", "2"]
    end = await world.told("end")
    story, *others = [line for line in end["transcript"] if line["text"].startswith("This is")]
    assert (STORY.startswith(story["text"]), others) == (True, [])
    assert texts(end)[-1] == ("assistant", "It was a pleasure. Goodbye.")


async def test_an_outbound_call_is_transferred(world, live, place):
    script = (
        Step("until_connected"),
        Step("say", "Hello who is there"),
        Step("listen"),
        Step("say", "A human please"),
    )
    world.phone.directory.put(CALLEE, Callee(script=script))
    del world.backend.plan["greeting"]
    transfer = CallTool("transfer_call", {"to": "+15559870004"})
    async with live(Say("It is the plumber."), (Say("One moment."), transfer)):
        _, ringing = await place()
        await ringing.journal.wait_for("dials")
        call = await world.hang_up(ringing)
    assert (call.direction, call.ended_reason) == ("outbound", "transferred")
    assert texts(await world.told("end")) == [
        ("user", "Hello who is there"),
        ("assistant", "It is the plumber."),
        ("user", "A human please"),
        ("assistant", "One moment."),
    ]


async def test_a_burst_after_a_stall_is_caught_up(world, live):
    """What comes late is heard to its end, and then nothing waits at Twilio any more."""
    async with live(Say(STORY), Say("Here I am.")) as openai:
        ringing = await greeted(world)
        person, line = ringing.person, ringing.line
        await person.say("Tell me everything")
        await hears(ringing, "This is")
        openai.sessions[0].disturb(Hold(3_000))
        assert await line.until(lambda: line.silent_ms > 1_000, within=300)  # the stall
        assert await line.until(lambda: line.playback.queued_bytes > 8_000, within=300)  # the burst
        await hears(ringing, STORY)
        assert await line.until(lambda: line.playback.is_empty, within=300)
        await person.say("Are you there")
        await hears(ringing, "Here I am.")
        await world.hang_up(ringing)


async def test_a_call_moves_to_another_session_and_to_another_engine(world, live, other, settings):
    """The session breaks while the agent speaks, and the engine drains while nobody does."""
    async with live(CallTool("book_table", {}), Say("Table seven."), Say(STORY)) as openai:
        ringing = await greeted(world)
        person = ringing.person
        await person.say("Book a table")
        await hears(ringing, "Table seven.")
        await person.say("Tell me everything")
        await hears(ringing, "This is a very long")
        openai.script = Script(turns=[Say("Where were we."), Say("Still here.")])
        openai.sessions[0].disturb(Drop())
        await hears(ringing, "Where were we.")
        await drain(world, other, settings)
        await until(lambda: other.calls.ids)
        await person.say("Thank you")
        await until(lambda: len(openai.sessions) == 3)
        await hears(ringing, "Where were we. Where were we.")
        person.hang_up()
        await ringing.journal.wait_for("ended", within=20)
        await asyncio.wait_for(other.calls.wait_until_none(), 10)
    _, second, third = [session.received[0]["session"]["input"] for session in openai.sessions]
    told = [message["content"][0]["text"] for message in second]
    assert told[:4] == [
        *("Hello.", "Book a table", "One moment."),
        "The tool book_table was called with {}.",
    ]
    assert "Tell me everything" in told[-2:]
    assert third[-1]["content"][0]["text"] == "Where were we."
    call = await in_database(Call.objects.get)
    assert call.ended_reason == "caller_hangup"
    end = await world.told("end")
    said = texts(end)
    cut = next(line for line in end["transcript"] if line["text"].startswith("This is"))
    assert (STORY.startswith(cut["text"]), cut["interrupted"]) == (True, True)
    assert said[-3:] == [
        ("assistant", "Where were we."),
        ("user", "Thank you"),
        ("assistant", "Where were we."),
    ]
    assert len(end["toolCalls"]) == len(world.backend.to("tool")) == 1
    timeline = await world.timeline(call)
    assert (timeline.count("model_renewed"), timeline.count("moved")) == (1, 1)
    record = await in_database(UsageRecord.objects.get)
    billed_s = (float(record.openai_cost) - backend_cost(openai.sessions[0])) * 60 / A_MINUTE
    heard = sum(map(heard_s, openai.sessions))
    # Of the session that was left, only full seconds are known, and none of what was on its way.
    assert heard - 3 < billed_s < heard + 0.1


async def test_a_realtime_model_follows_one_that_does_not_start(world, model):
    world.backend.plan["model"] = ["gpt-live-1", "gpt-realtime-1.5"]
    async with model(Script(turns=[Say("I heard you.")])) as openai:
        openai.refusals = [404]
        ringing = await greeted(world)
        await ringing.person.say("Hello")
        await hears(ringing, "I heard you.")
        await world.hang_up(ringing)
    assert [each.path == LIVE_PATH for each in openai.sessions] == [True, False]
    assert (await world.told("end"))["model"] == "gpt-realtime-1.5"


@only_in_all("an engine of its own")
async def test_a_call_goes_on_if_its_engine_is_killed(world, live, settings):
    """The engine dies while the backend works: the next one answers, and runs no tool twice."""
    (port,) = free_ports(1)
    ours, theirs = settings.MEDIA_STREAM_URL, f"ws://127.0.0.1:{port}/media"
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(body):
        is_asked.set()
        await may_answer.wait()
        return web.json_response({"result": "table seven"})

    world.backend.tool = slow
    async with (
        live(CallTool("book_table", {})) as openai,
        engine(openai.url, OPENAI_LIVE_URL=openai.live_url, MEDIA_PORT=f"{port}") as (process, _),
    ):
        settings.MEDIA_STREAM_URL = theirs
        ringing = await greeted(world)
        settings.MEDIA_STREAM_URL = ours
        await ringing.person.say("Book a table")
        await asyncio.wait_for(is_asked.wait(), 10)
        call = await in_database(Call.objects.get, call_sid=ringing.sid)
        await until(lambda: in_database(knows, call, "Book a table"))
        openai.script = Script(turns=[Say("I do not know whether it is booked.")])
        os.killpg(process.pid, signal.SIGKILL)
        may_answer.set()
        await hears(ringing, "I do not know whether it is booked.")
        await world.hang_up(ringing)
    end = await world.told("end")
    assert texts(end)[:2] == [("assistant", "Hello."), ("user", "Book a table")]
    assert len(world.backend.to("tool")) == 1
    assert not world.backend.to("error")
    assert (await in_database(TotalUsage.objects.get)).calls == 1
