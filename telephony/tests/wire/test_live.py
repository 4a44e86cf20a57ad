"""A call with a Live model, from the first ring to the last callback."""

from __future__ import annotations

from sandbox.model import Call as CallTool
from sandbox.model import Say, Script
from sandbox.model.server import LIVE_PATH
from telephony.db import in_database
from telephony.engine.audio import audio_size
from usage.models import UsageRecord


async def test_it_works(world, model):
    world.backend.plan["model"] = "gpt-live-1.1"
    script = Script(turns=[CallTool("book_table", {"people": 2}), Say("Table seven.")])
    async with model(script) as openai:
        ringing = await world.greeted()
        await ringing.person.say("A table for two please")
        await ringing.person.hears("Table seven.")
        await world.hang_up(ringing)
    (session,) = openai.sessions
    assert (session.path, session.query) == (LIVE_PATH, {})
    assert session.received[0]["session"]["model"] == "gpt-live-1.1"
    assert session.headers["Authorization"] == "Bearer sk-of-a-test"
    end = await world.told("end")
    assert end["model"] == "gpt-live-1.1"
    assert [(line["role"], line["text"]) for line in end["transcript"]][:2] == [
        ("assistant", "Hello."),
        ("user", "A table for two please"),
    ]
    assert [run["toolName"] for run in end["toolCalls"]] == ["book_table"]
    record = await in_database(UsageRecord.objects.get)
    used = [
        event["event"]["response"]["usage"]
        for event in session.sent_of("response.event")
        if event["event"]["type"] == "response.completed"
    ]
    tokens = sum(
        0.10 * (each["input_tokens"] - each["input_tokens_details"]["cached_tokens"])
        + 0.01 * each["input_tokens_details"]["cached_tokens"]
        + 0.50 * each["output_tokens"]
        for each in used
    )
    billed_s = (float(record.openai_cost) - tokens / 1e6) * 60 / 0.05
    appended = session.received_of("session.input_audio.append")
    heard_s = sum(audio_size(each["audio"].encode()) for each in appended) / 8_000
    assert used
    assert 0 < billed_s < heard_s + 0.1


async def test_a_realtime_model_follows_one_that_does_not_start(world, model):
    world.backend.plan["model"] = ["gpt-live-1", "gpt-realtime-1.5"]
    async with model(Script(turns=[Say("I heard you.")])) as openai:
        openai.refusals = [404]
        ringing = await world.greeted()
        await ringing.person.say("Hello")
        await ringing.person.hears("I heard you.")
        await world.hang_up(ringing)
    assert [each.path == LIVE_PATH for each in openai.sessions] == [True, False]
    assert (await world.told("end"))["model"] == "gpt-realtime-1.5"
