"""Callers without a number, by SIP, or from an app."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from multidict import MultiDict

from sandbox.model import Call as CallTool
from sandbox.model import Say, Script
from sandbox.phone.faults import Faults
from sandbox.tests.customer import NUMBER
from telephony.engine import playback
from telephony.tests.wire.test_refusals import form, post

ELSEWHERE = "+15559876543"
UNSHOWN = ["anonymous", "+266696687", "client:alice", "sip:alice@example.com", ""]


@pytest.mark.parametrize("caller", UNSHOWN)
async def test_their_call_is_accepted(world, model, caller):
    async with model(Script(turns=[Say("Yes.")])):
        ringing = await world.greeted(from_=caller)
        await ringing.person.say("Hello?")
        await ringing.person.hears("Yes.")
        call = await world.hang_up(ringing)
    assert call.caller_phone == (caller or "anonymous")
    assert (await world.told("end"))["callerPhone"] == (caller or "anonymous")
    (start,) = world.backend.to("start")
    assert start.body["callerNumber"] == (caller or "anonymous")


async def test_a_webhook_without_from_is_accepted(world):
    fields = form()
    del fields["From"]
    status, twiml = await post(world, fields)
    assert (status, "<Connect" in twiml) == (200, True)


class TestTransfer:
    """Twilio dials with the caller's number, or with ours where it would not show that."""

    def dial(self, twiml):
        (dial,) = ElementTree.fromstring(twiml).findall("Dial")  # noqa: S314 (our own)
        assert dial.text == ELSEWHERE
        return dial.attrib

    @pytest.mark.parametrize("caller", UNSHOWN)
    async def test_by_the_backend_whoever_is_not_shown(self, world, caller):
        world.backend.answer = {"transfer": ELSEWHERE, **world.backend.credentials}
        _, twiml = await post(world, form(From=caller))
        assert self.dial(twiml) == {"callerId": NUMBER}

    @pytest.mark.parametrize("caller", ["+19805550000", "+442079460000", "+15551234567"])
    async def test_by_the_backend_a_caller_with_a_number(self, world, caller):
        world.backend.answer = {"transfer": ELSEWHERE, **world.backend.credentials}
        _, twiml = await post(world, form(From=caller))
        assert self.dial(twiml) == {}

    @pytest.mark.parametrize("caller", ["anonymous", "+19805550000"])
    async def test_by_the_model(self, world, model, caller):
        turns = [(Say("One moment."), CallTool("transfer_call", {"to": ELSEWHERE}))]
        async with model(Script(turns=turns)):
            ringing = await world.greeted(from_=caller)
            await ringing.person.say("A human please")
            await ringing.journal.wait_for("dials")
            call = await world.hang_up(ringing)
        shown = NUMBER if caller == "anonymous" else ""
        assert call.after_stream == {"transfer": ELSEWHERE, "caller_id": shown}


async def test_a_parameter_that_comes_twice_is_signed_twice(world):
    fields = MultiDict([*form().items(), ("SipHeader_X", "two"), ("SipHeader_X", "one")])
    status, twiml = await post(world, fields)
    assert (status, "<Connect" in twiml) == (200, True)


async def test_what_the_other_side_of_the_call_says_does_not_reach_the_model(world, model):
    async with model(Script(turns=[Say("Yes.")])) as openai:
        ringing = await world.greeted()
        for track, payload in (("outbound", "b3V0"), ("inbound", ""), ("outbound", "")):
            media = {"track": track, "chunk": "1", "timestamp": "20", "payload": payload}
            ringing.stream.send("media", media=media)
        await ringing.person.say("Hello?")
        await ringing.person.hears("Yes.")
        await world.hang_up(ringing)
    audio = [each["audio"] for each in openai.sessions[0].received if "audio" in each]
    assert audio
    assert "b3V0" not in audio
    assert "" not in audio


async def test_silence_ends_a_call_whose_marks_never_come_back(world, model, monkeypatch):
    monkeypatch.setattr(playback, "MARK_LATE_S", 0.2)
    world.backend.plan["inactivityTimeoutMs"] = 1000
    async with model():
        ringing = await world.greeted(faults=Faults(marks_lost=True))
        call = await world.over(ringing)
    assert call.ended_reason == "inactivity"
    assert "marks_lost" in await world.timeline(call)
