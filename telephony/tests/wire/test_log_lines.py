"""The log lines of calls name the call, in whichever task, thread or socket they come about."""

from __future__ import annotations

import aiohttp
from aiohttp import web

from sandbox.model import Script
from sandbox.tests.customer import NUMBER
from telephony.db import in_database
from telephony.engine import events
from telephony.engine.session import CallSession
from telephony.models import Call
from telephony.tests.wire.test_inbound import CALLER
from telephony.voice import transactions


async def test_calls_at_the_same_time_each_leave_a_line_and_keep_their_names(
    world, model, log_lines
):
    async with model(Script()):
        ringing = [await world.greeted(from_=CALLER) for _ in range(3)]
        for each in ringing:
            each.person.hang_up()
        calls = [await world.over(each) for each in ringing]
    await world.work()
    ended = log_lines("call_ended")
    assert {line["call_id"]: line["call_sid"] for line in ended} == {
        call.id: call.call_sid for call in calls
    }
    assert len(ended) == 3
    assert all(line["first_audio_ms"] > 0 and line["on_call_start_ms"] >= 0 for line in ended)
    assert CALLER not in str(log_lines())


async def test_a_failure_in_each_of_a_calls_sockets(world, model, log_lines, monkeypatch):
    receive = CallSession.receive

    def fails(self, event, now):
        if isinstance(event, events.DigitPressed | events.HangupRequested):
            raise RuntimeError
        return receive(self, event, now)

    monkeypatch.setattr(CallSession, "receive", fails)
    async with model(Script()):
        ringing = await world.greeted()
        await ringing.person.press("1")
        call = await world.over(ringing)
    assert call.ended_reason == "internal_error"
    for event in ("call_abandoned", "call_ended"):
        [line] = log_lines(event)
        assert (line["call_id"], line["call_sid"]) == (call.id, call.call_sid)


async def test_a_call_that_is_rejected_leaves_one_line(world, log_lines, monkeypatch):
    monkeypatch.setattr(transactions, "MOST_REFUSED", 2)

    async def rejected(**options):
        ringing = world.phone.ring(**{"to": NUMBER, "from_": CALLER, **options})
        await ringing.journal.wait_for("ended")
        return ringing.sid

    unknown = await rejected(to="+15550009999")
    world.backend.answer = {"reject": True, "reason": "busy"}
    busy = await rejected()
    world.backend.start = lambda: web.Response(status=500)
    failed = await rejected()
    dropped = await rejected()
    names = ("event", "call_sid", "why", "reason", "code", "number")
    lines = log_lines("call_rejected") + log_lines("call_ended")
    assert [tuple(line.get(name) for name in names) for line in lines] == [
        ("call_rejected", unknown, "number_unknown", None, None, "+15550009999"),
        ("call_rejected", dropped, "too_many_rejected", None, None, NUMBER),
        ("call_ended", busy, None, "rejected", None, NUMBER),
        ("call_ended", failed, None, "rejected", "call_start_bad_status", NUMBER),
    ]
    assert await in_database(Call.objects.count) == 2
    assert CALLER not in str(log_lines())


async def test_a_webhooks_names_do_not_reach_the_next_request(world, log_lines):
    fields = {"CallSid": "CA" + "0" * 32, "AccountSid": "AC" + "0" * 32, "To": NUMBER}
    async with aiohttp.ClientSession() as session:
        for path, data in (("/voice", fields), ("/nothing", {})):
            url = world.phone.voice_url.replace("/voice", path)
            async with session.post(url, data=data) as response:
                assert response.status in (403, 404)
    webhook, other = log_lines()
    assert webhook["call_sid"] == fields["CallSid"]
    assert "call_sid" not in other
    assert webhook["request_id"] != other["request_id"]
