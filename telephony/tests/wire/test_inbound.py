"""An inbound call, from the first ring to the last callback."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from datetime import datetime
from decimal import Decimal

from openai.types.realtime import RealtimeClientEvent
from pydantic import TypeAdapter
from standardwebhooks import Webhook

from sandbox.model import Call as CallTool
from sandbox.model import Say, Script
from sandbox.phone.faults import Faults
from sandbox.tests.customer import NUMBER
from telephony.db import in_database
from telephony.engine.models import DEFAULT_MODEL
from telephony.models import Call
from usage.models import TotalUsage, UsageRecord

CALLER = "+19805550000"


async def test_it_works(world, model):
    script = Script(turns=[CallTool("book_table", {"people": 2}), Say("Table seven.")])
    async with model(script) as openai:
        ringing = await world.greeted(from_=CALLER)
        await ringing.person.say("A table for two please")
        await ringing.person.hears("Table seven.")
        call = await world.hang_up(ringing)

    assert call.status == Call.Status.COMPLETED
    assert call.ended_reason == "caller_hangup"
    assert call.answered_at <= call.ended_at
    assert not ringing.journal.of("error")
    (session,) = openai.sessions
    kinds = [event["type"] for event in session.received if "append" not in event["type"]]
    assert kinds[:2] == ["session.update", "response.create"]
    for event in session.received:
        TypeAdapter(RealtimeClientEvent).validate_python(event)
    assert session.headers["Authorization"] == "Bearer sk-of-a-test"
    assert session.query == {"model": "gpt-realtime-1.5"}

    end = await world.told("end")
    assert [(line["role"], line["text"]) for line in end["transcript"]] == [
        ("assistant", "Hello."),
        ("user", "A table for two please"),
        ("assistant", "Table seven."),
    ]
    record = await in_database(UsageRecord.objects.get, call_sid=ringing.sid)
    assert end["durationSeconds"] == record.duration_seconds == call.duration_seconds
    assert record.minutes == 1
    assert record.platform_cost == Decimal("0.05")
    assert record.openai_cost > 0
    totals = await in_database(TotalUsage.objects.get, account=world.account)
    assert (totals.calls, totals.minutes) == (1, 1)


async def test_every_callback_has_its_fields_and_both_signatures(world, model):
    script = Script(turns=[CallTool("book_table", {"people": 2}), Say("Done.")])
    world.backend.plan["metadata"] = {"customerId": "cust_123"}
    async with model(script):
        ringing = await world.greeted(from_=CALLER)
        await ringing.person.say("Book")
        await ringing.person.hears("Done.")
        await world.hang_up(ringing)
    await world.work()

    (start,), (tool,), (end,) = (world.backend.to(name) for name in ("start", "tool", "end"))
    parties = {"callerPhone": CALLER, "callerNumber": CALLER, "calledNumber": NUMBER}
    about = {"callSid": ringing.sid, **parties, "direction": "inbound"}
    assert start.body == {**about, "timestamp": start.body["timestamp"]}
    assert tool.body == {
        "callSid": ringing.sid,
        "toolName": "book_table",
        "arguments": {"people": 2},
        "metadata": {"customerId": "cust_123"},
        "timestamp": tool.body["timestamp"],
    }
    costs, (tool_call,) = end.body["costBreakdown"], end.body["toolCalls"]
    latency = await in_database(lambda: Call.objects.get().latency)
    assert 0 <= latency["firstAudioMs"] < 10_000
    assert 0 <= latency["turnP50Ms"] == latency["turnP95Ms"] < 10_000
    assert tool_call == {
        "toolName": "book_table",
        "status": "succeeded",
        "result": '{"table":7}',
        "durationMs": tool_call["durationMs"],
        "timestamp": tool_call["timestamp"],
    }
    assert end.body == {
        **about,
        "durationSeconds": end.body["durationSeconds"],
        "endedReason": "caller_hangup",
        "transcript": end.body["transcript"],
        "toolCalls": [tool_call],
        "costBreakdown": costs,
        "latency": latency,
        "metadata": {"customerId": "cust_123"},
        "timestamp": end.body["timestamp"],
        "model": DEFAULT_MODEL,
    }
    assert list(costs) == ["platformCost", "twilioCost", "openaiCost", "totalCost"]
    secret = await in_database(lambda: world.account.webhook_secret.secret)
    for callback in (start, tool, end):
        datetime.strptime(callback.body["timestamp"], "%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: DTZ007
        Webhook(secret).verify(callback.raw, callback.headers)
        digest = hmac.new(secret.encode(), callback.raw, hashlib.sha256).hexdigest()
        assert callback.headers["X-Veevo-Signature"] == digest


async def test_the_audio_reaches_either_side_unchanged(world, model):
    async with model(Script(turns=[Say("Yes, I can.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Can you hear me")
        await ringing.person.hears("Yes, I can.")
        await ringing.person.wait(2)
        await world.hang_up(ringing)
    (session,) = openai.sessions
    to_model = [b64decode(event["audio"]) for event in session.received if "audio" in event]
    assert b"".join(to_model) in b"".join(ringing.line.caller_track)
    deltas = session.sent_of("response.output_audio.delta")
    answer = [
        b64decode(each["delta"]) for each in deltas if each["item_id"] == deltas[-1]["item_id"]
    ]
    assert b"".join(answer) in b"".join(ringing.line.agent_track)


async def test_messages_of_a_foreign_shape_are_understood(world, model):
    """Neither the order of JSON's keys nor its spacing is promised, and a message may be split."""
    async with model(Script(turns=[Say("Yes, I can.")], odd_json=True)):
        ringing = await world.greeted(faults=Faults(fragments=3))
        await ringing.person.say("Can you hear me")
        await ringing.person.hears("Yes, I can.")
        await world.hang_up(ringing)
    transcript = (await world.told("end"))["transcript"]
    assert [line["text"] for line in transcript] == ["Hello.", "Can you hear me", "Yes, I can."]


async def test_a_greeting_file_is_played_before_the_stream(world, model):
    world.backend.plan["greetingUrl"] = f"{world.backend.url}/hello.mp3"
    async with model():
        ringing = await world.greeted()
        await world.hang_up(ringing)
    verbs = [(event["verb"], event["text"]) for event in ringing.journal.of("twiml")]
    assert verbs[:2] == [("Play", f"{world.backend.url}/hello.mp3"), ("Connect", "")]


async def test_what_the_caller_says_before_the_model_is_there_is_not_lost(world, model):
    del world.backend.plan["greeting"]
    async with model(Script(turns=[Say("I heard you.")])) as openai:
        ringing = world.ring()
        await ringing.person.until_connected()
        await ringing.person.say("Hello hello")
        await ringing.person.hears("I heard you.")
        await world.hang_up(ringing)
    transcripts = openai.sessions[0].sent_of(
        "conversation.item.input_audio_transcription.completed"
    )
    assert [event["transcript"] for event in transcripts] == ["Hello hello"]


async def test_the_timeline_tells_what_happened(world, model):
    async with model():
        ringing = await world.greeted()
        call = await world.hang_up(ringing)
    timeline = await world.timeline(call)
    assert timeline[:4] == ["received", "accepted", "connected", "model_ready"]
    assert timeline[-1] == "ended"
    assert timeline.count("ended") == 1
    assert "not_understood" not in timeline


async def test_the_timeline_tells_how_long_things_took(world, model):
    async with model(Script(turns=[Say("I heard you.")])):
        ringing = await world.greeted()
        await ringing.person.say("Hello hello")
        await ringing.person.hears("I heard you.")
        call = await world.hang_up(ringing)
    took = {event.kind: event.detail for event in await in_database(list, call.events.all())}
    assert 0 <= took["accepted"]["onCallStartMs"] < 10_000
    assert took["accepted"]["onCallStartStatus"] == 200
    assert not await in_database(call.failed_requests.exists), "which would cost the caller time"
    assert 0 <= took["model_ready"]["ms"] < 10_000
    assert 0 <= took["greeted"]["ms"] < 10_000
    assert 0 < took["caller_spoke"]["ms"] < 10_000
    assert 0 <= took["agent_spoke"]["latencyMs"] < 10_000
    assert "Hello" not in repr(took)
