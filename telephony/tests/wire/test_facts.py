"""What observers are told about calls, over the wire."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from core.observers import observe
from core.tests.waiting import until
from sandbox.model import Call as CallTool
from sandbox.model import Drop, Say, Script
from telephony import facts
from telephony.db import in_database
from telephony.engine.after_stream import APOLOGY
from telephony.engine.session import CallSession
from telephony.tests.wire.test_conversation import LONG
from telephony.tests.wire.test_moving import drain
from telephony.tests.wire.test_refusals import form, post
from telephony.voice import webhooks


@pytest.fixture
def told():
    """The facts so far."""
    told: list[object] = []
    kinds = [
        kind for kind in vars(facts).values() if getattr(kind, "__module__", "") == facts.__name__
    ]
    ends = [observe(kind, told.append) for kind in kinds]
    yield told
    for end in ends:
        end()


def of(told, kind):
    return [fact for fact in told if type(fact) is kind]


async def test_a_call_is_told_from_its_webhook_to_its_callback(world, model, told):
    async def book(body):
        return web.json_response({"result": "table seven"})

    world.backend.tool = book
    turns = [(Say("Let me look."), CallTool("book_table", {})), Say(LONG), Say("All right.")]
    async with model(Script(turns=turns)):
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await ringing.person.hears("Let me look.")
        await ringing.person.interrupt("Stop")
        await ringing.person.hears("All right.")
        call = await world.hang_up(ringing)
    await world.told("end")

    at_any_time = (facts.Noted, facts.WebhookAnswered)
    assert [type(fact).__name__ for fact in told if not isinstance(fact, at_any_time)] == [
        "CallStarted",
        "CallStartAsked",
        "CallHeld",
        "ModelConnected",
        "ToolAsked",
        "CallEnded",
        "CallReleased",
        "CallbackSent",
    ]
    answered = of(told, facts.WebhookAnswered)
    assert {(fact.webhook, fact.status) for fact in answered} >= {("inbound", 200)}
    assert {(fact.call_sid, fact.apologized) for fact in answered} == {(call.call_sid, False)}
    (asked,) = of(told, facts.CallStartAsked)
    assert (asked.call.id, asked.outcome, asked.status) == (call.id, "accepted", 200)
    (connected,) = of(told, facts.ModelConnected)
    assert (connected.outcome, connected.status) == ("connected", None)
    kinds = {note.kind for note in of(told, facts.Noted)}
    assert kinds >= {
        "model_ready",
        "greeted",
        "agent_spoke",
        "agent_heard",
        "interrupted",
        "tool_returned",
    }
    (ended,) = of(told, facts.CallEnded)
    assert (ended.call.ended_reason, ended.tool_calls) == ("caller_hangup", 1)
    assert ended.usage.audio_out > 0
    assert ended.record is not None
    assert ended.record.call_sid == call.call_sid
    (sent,) = of(told, facts.CallbackSent)
    assert (sent.kind, sent.result.text) == ("onCallEnd", "204")
    assert not of(told, facts.ModelDisconnected)


async def test_a_tool_that_a_bug_cuts_short_did_not_time_out(world, model, told, monkeypatch):
    is_asked, may_respond = asyncio.Event(), asyncio.Event()

    async def slow(body):
        is_asked.set()
        await may_respond.wait()
        return web.json_response({"result": "table seven"})

    def fails(self, event, now):
        raise RuntimeError("forced")

    world.backend.tool = slow
    async with model(Script(turns=[CallTool("book_table", {})])):
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await asyncio.wait_for(is_asked.wait(), 5)
        monkeypatch.setattr(CallSession, "receive", fails)
        await ringing.person.press("1")
        call = await world.over(ringing)
    may_respond.set()
    assert call.ended_reason == "internal_error"
    assert [fact.outcome for fact in of(told, facts.ToolAsked)] == [facts.CALL_ENDED]
    assert not await in_database(call.failed_requests.exists)


async def test_a_lost_model_is_told(world, model, told):
    async with model(Script(turns=[Drop()])):
        ringing = await world.greeted()
        await ringing.person.say("Hello?")
        await world.over(ringing)
    assert [fact.code for fact in of(told, facts.ModelDisconnected)] == [1006] * 3


async def test_a_model_that_a_moving_call_leaves_is_not_lost(world, model, other, settings, told):
    async with model() as openai:
        ringing = await world.greeted()
        await drain(world, other, settings)
        await openai.wait_for(lambda server: server.sessions[0].is_closed)
        await until(lambda: other.calls.ids)
        ringing.person.hang_up()
        await ringing.journal.wait_for("ended", within=20)
        await asyncio.wait_for(other.calls.wait_until_none(), 10)
    assert not of(told, facts.ModelDisconnected)
    assert len(of(told, facts.CallHeld)) == len(of(told, facts.CallReleased)) == 2
    assert len(of(told, facts.CallEnded)) == 1


async def test_an_apology_is_told_with_the_status_that_twilio_got(world, told, monkeypatch):
    monkeypatch.setattr(webhooks, "_ANSWERED_WITHIN_S", 0.5)
    world.backend.may_answer = asyncio.Event()
    status, text = await post(world, form())
    world.backend.may_answer.set()
    assert APOLOGY in text
    (answered,) = of(told, facts.WebhookAnswered)
    assert (answered.apologized, answered.status) == (True, status) == (True, 200)


async def test_all_visits_to_the_database_have_one_limit(world, told, monkeypatch):
    monkeypatch.setattr(webhooks, "_ALL_VISITS_WITHIN_S", 0.0)
    _, text = await post(world, form())
    assert APOLOGY in text
    assert not world.backend.to("start")
