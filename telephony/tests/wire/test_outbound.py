"""An outbound call, from the API's response to the last callback."""

from __future__ import annotations

import pytest

from accounts.models import Account
from sandbox.model import Say, Script
from sandbox.phone.callees import Callee
from sandbox.phone.faults import Faults
from sandbox.phone.person import Step
from sandbox.tests.customer import NUMBER
from telephony.db import in_database
from telephony.models import Call
from telephony.tests.wire.conftest import CALLEE
from usage.models import UsageRecord


async def test_it_works(world, model, place):
    script = (
        Step("until_connected"),
        Step("say", "Hello who is there"),
        Step("listen"),
        Step("say", "No thank you"),
        Step("hang_up"),
    )
    world.phone.directory.put(CALLEE, Callee(script=script))
    del world.backend.plan["greeting"]
    async with model(Script(turns=[Say("It is the plumber."), Say("Bye.")])):
        answer, ringing = await place(metadata={"customerId": "cust_123"})
        call = await world.over(ringing)

    assert answer == {"id": call.id, "callSid": ringing.sid, "status": "queued"}
    assert call.ended_reason == "caller_hangup"
    (start,) = world.backend.to("start")
    assert start.body["direction"] == "outbound"
    assert start.body["metadata"] == {"customerId": "cust_123"}
    assert (start.body["callerPhone"], start.body["calledNumber"]) == (NUMBER, CALLEE)
    end = await world.told("end")
    assert end["metadata"] == {"customerId": "cust_123"}
    assert [line["text"] for line in end["transcript"]][:2] == [
        "Hello who is there",
        "It is the plumber.",
    ]
    assert end["durationSeconds"] > 0
    timeline = await world.timeline(call)
    assert timeline[:4] == ["placed", "ringing", "answered", "accepted"]


async def test_a_machine_is_named_to_the_backend(world, model, place):
    async with model():
        _, ringing = await place(to="+15559870004", machineDetection="Enable")
        await ringing.journal.wait_for("stream-connected")
        call = await world.hang_up(ringing)
    assert world.backend.to("start")[0].body["answeredBy"].startswith("machine")
    assert call.answered_by.startswith("machine")


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [("0001", "busy", "busy"), ("0002", "no-answer", "no_answer"), ("0003", "failed", "failed")],
)
async def test_an_unanswered_call_ends_without_a_charge(world, place, ending, status, reason):
    _, ringing = await place(to=f"+1555987{ending}", timeout=5)
    call = await world.over(ringing)
    assert (call.status, call.ended_reason) == (status, reason)
    end = await world.told("end")
    assert (end["endedReason"], end["durationSeconds"], end["transcript"]) == (reason, 0, [])
    record = await in_database(UsageRecord.objects.get)
    assert (record.minutes, record.total_cost) == (0, 0)
    assert world.backend.to("start") == []


async def test_a_call_that_is_hung_up_before_the_answer_says_nothing(world, place, alice_api):
    answer, ringing = await place()
    await in_database(alice_api.post, f"/api/calls/{answer['id']}/hangup")
    call = await world.over(ringing)
    assert (call.status, call.ended_reason) == ("canceled", "api_hangup")
    assert world.backend.to("start") == []
    assert (await world.told("end"))["durationSeconds"] == 0


@pytest.mark.parametrize(
    "standing", [{"status": "SUSPENDED"}, {"suspended_by_operator": True}, {"is_active": False}]
)
async def test_a_call_that_is_answered_after_the_suspension_is_hung_up(world, place, standing):
    _, ringing = await place()
    await in_database(Account.objects.filter(pk=world.account.pk).update, **standing)
    call = await world.over(ringing)
    assert (call.status, call.ended_reason) == ("rejected", "rejected")
    assert call.answered_at is None
    assert world.backend.to("start") == []
    assert (await world.told("end"))["endedReason"] == "rejected"


async def test_a_refusal_hangs_up(world, place):
    world.backend.answer = {"reject": True}
    _, ringing = await place()
    call = await world.over(ringing)
    assert call.ended_reason == "rejected"
    assert (await world.told("end"))["endedReason"] == "rejected"


async def test_a_wrong_token_in_the_answer_hangs_up(world, place):
    world.backend.plan["twilioAuthToken"] = "another"
    _, ringing = await place()
    call = await world.over(ringing)
    assert call.answered_at is None
    assert (await world.told("error"))["code"] == "invalid_twilio_signature"


async def test_statuses_that_come_late_and_in_reverse_change_nothing(world, model, place):
    world.phone.faults = Faults(statuses_reversed=True)
    async with model():
        _, ringing = await place()
        await ringing.person.hears("Hello.")
        call = await world.hang_up(ringing)
    assert (call.status, call.ended_reason) == ("completed", "caller_hangup")
    assert await in_database(UsageRecord.objects.count) == 1
    assert await in_database(Call.objects.live().count) == 0
