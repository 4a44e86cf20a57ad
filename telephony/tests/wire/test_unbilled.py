"""Calls whose model never started: they are recorded and reported, and cost nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.tests.waiting import until
from sandbox.model.script import Drop, Error, Fail, Say, Script, When
from telephony.db import in_database
from telephony.models import Call
from usage.models import DailyUsage, TotalUsage, UsageRecord

NEVER_STARTED = [
    Script(upgrade=401),
    Script(upgrade=500),
    Script(when=[When("open", (Error("insufficient_quota"),))]),
    Script(when=[When("session.update", (Error("invalid_value"),), instead=True)]),
    Script(when=[When("session.update", (Drop(),), instead=True)]),
    Script(greets=False, turns=[Fail("insufficient_quota")]),
]


async def charged() -> tuple[int, Decimal, int, int]:
    """Return minutes and cost of the one usage record, and the totals' calls and minutes."""
    record = await in_database(UsageRecord.objects.get)
    day, total = (
        await in_database(DailyUsage.objects.get),
        await in_database(TotalUsage.objects.get),
    )
    assert (day.calls, day.minutes) == (total.calls, total.minutes)
    return record.minutes, record.platform_cost, total.calls, total.minutes


@pytest.mark.parametrize("script", NEVER_STARTED)
async def test_a_call_whose_model_never_started_is_free(world, model, script):
    async with model(script):
        call = await world.over(world.ring())
    assert call.ended_reason in {"model_error", "model_disconnected"}
    assert await charged() == (0, 0, 1, 0)
    end = await world.told("end")
    assert end["durationSeconds"] == call.duration_seconds > 0
    assert end["costBreakdown"]["platformCost"] == 0
    assert end["costBreakdown"]["twilioCost"] > 0


async def test_a_wrong_openai_key_costs_nothing(world, model):
    world.backend.plan["openaiApiKey"] = "sk-wrong"
    async with model():
        call = await world.over(world.ring())
    assert (call.ended_reason, call.billed_from) == ("model_error", None)
    assert await charged() == (0, 0, 1, 0)


async def test_a_caller_who_hangs_up_before_the_model_is_ready_pays_nothing(world, model):
    async with model(Script(upgrade=None)):
        ringing = world.ring()
        connected = Call.objects.filter(call_sid=ringing.sid, answered_at__isnull=False)
        await until(lambda: in_database(connected.exists))
        call = await world.hang_up(ringing)
    assert call.ended_reason == "caller_hangup"
    assert await charged() == (0, 0, 1, 0)


async def test_a_call_whose_agent_spoke_is_billed_from_when_the_model_was_ready(world, model):
    async with model(Script(turns=[Fail("insufficient_quota")])):
        ringing = await world.greeted()
        await ringing.person.say("Hello")
        call = await world.over(ringing)
    ready = await in_database(call.events.get, kind="model_ready")
    assert abs((call.billed_from - ready.at).total_seconds()) < 0.1
    assert call.answered_at < call.billed_from < call.ended_at
    assert await charged() == (1, Decimal("0.05"), 1, 1)


async def test_the_moment_is_stored_during_the_call(world, model):
    async with model(Script(turns=[Say("Yes.")])):
        ringing = await world.greeted()
        await ringing.person.say("Are you there")
        await ringing.person.hears("Yes.")
        ready = Call.objects.filter(call_sid=ringing.sid, billed_from__isnull=False)
        await until(lambda: in_database(ready.exists))
        await world.hang_up(ringing)
