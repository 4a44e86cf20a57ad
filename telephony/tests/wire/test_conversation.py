"""Events while caller and model talk, over the wire; the pure tests have every branch."""

from __future__ import annotations

import asyncio
import gc

import pytest
from aiohttp import web

from core.tests.waiting import until
from sandbox.model import Call as CallTool
from sandbox.model import Close, Drop, Error, Fail, Say, Script, When
from sandbox.model.server import DROPPED
from sandbox.tests.customer import NUMBER
from telephony.callbacks import tools
from telephony.callbacks.attempts import answer_of
from telephony.db import in_database
from telephony.engine import toolbox
from telephony.engine.after_stream import APOLOGY
from telephony.engine.phase import Phase
from telephony.engine.spoken import SpokenGreeting
from telephony.models import CachedGreeting, Call
from telephony.voice import runner

CREATE = "conversation.item.create"
LONG = "This is a very long answer that goes on and on and on until somebody says something"


async def test_interruption(world, model):
    async with model(Script(turns=[Say(LONG), Say("All right.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Tell me everything")
        await ringing.person.interrupt("Stop")
        await ringing.person.hears("All right.")
        await world.hang_up(ringing)
    (truncation,) = openai.sessions[0].received_of("conversation.item.truncate")
    spoken = openai.sessions[0].sent_of("response.output_audio_transcript.done")
    assert truncation["item_id"] == spoken[1]["item_id"]
    assert truncation["audio_end_ms"] > 0
    assert ringing.journal.of("clear")[0]["dropped_ms"] > 0
    assert LONG not in ringing.line.heard
    transcript = (await world.told("end"))["transcript"]
    assert [line["interrupted"] for line in transcript if line["text"] == LONG] == [True]


async def test_tool_during_speech(world, model):
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(body):
        is_asked.set()
        await may_answer.wait()
        return web.json_response({"result": "table seven"})

    world.backend.tool = slow
    turns = [(Say("Let me look."), CallTool("book_table", {})), Say("Still looking."), Say("Done.")]
    async with model(Script(turns=turns)) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await asyncio.wait_for(is_asked.wait(), 5)
        await ringing.person.hears("Let me look.")
        await ringing.person.say("Are you there")
        await ringing.person.hears("Still looking.")
        may_answer.set()
        await ringing.person.hears("Done.")
        await world.hang_up(ringing)
    created = openai.sessions[0].received_of("conversation.item.create")
    assert [event["item"]["output"] for event in created] == ["table seven"]


async def test_tool_timeout(world, model, monkeypatch):
    monkeypatch.setattr(toolbox, "TOOL_S", 0.3)
    answers = asyncio.Event()

    async def silent(body):
        await answers.wait()
        return web.Response()

    world.backend.tool = silent
    async with model(Script(turns=[CallTool("book_table", {}), Say("Sorry.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await ringing.person.hears("Sorry.")
        call = await world.hang_up(ringing)
    answers.set()
    (created,) = openai.sessions[0].received_of("conversation.item.create")
    assert created["item"]["output"] == '{"error": "The tool did not respond in time."}'
    failed = await in_database(call.failed_requests.get)
    assert (failed.tool, failed.result, answer_of(failed)) == ("book_table", "timeout", "")
    assert failed.duration_ms >= 290


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (web.Response(status=500), "The tool book_table failed with HTTP status 500."),
        (web.Response(text="{"), "The tool book_table responded with something that is not JSON."),
        (web.Response(text="{}"), "The tool book_table responded without a result."),
    ],
)
async def test_tool_error(world, model, answer, told):
    async def broken(body):
        return answer

    world.backend.tool = broken
    async with model(Script(turns=[CallTool("book_table", {}), Say("Sorry.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await ringing.person.hears("Sorry.")
        call = await world.hang_up(ringing)
    (created,) = openai.sessions[0].received_of("conversation.item.create")
    assert created["item"]["output"] == f'{{"error": "{told}"}}'
    failed = await in_database(call.failed_requests.get)
    assert (failed.kind, failed.tool) == ("onToolCall", "book_table")
    assert failed.url == f"{world.backend.url}/tool"
    assert (failed.result, answer_of(failed)) == (str(answer.status), answer.text or "")
    assert failed.account_id == world.account.id


async def test_the_tool_client_gives_up_when_the_session_does():
    assert tools.TIMEOUT_SECONDS == toolbox.TOOL_S


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(turns=[Error("insufficient_quota", "No money.")]), "model_insufficient_quota"),
        (Script(turns=[Fail("insufficient_quota")]), "model_insufficient_quota"),
        (Script(turns=[Error("session_expired")]), "model_session_expired"),
        (Script(turns=[Close(1011, "restarting")]), "model_disconnected"),
        (Script(turns=[Drop()]), "model_disconnected"),
        (Script(when=[When("session.update", (Drop(),))]), "model_disconnected"),
        (Script(upgrade=401), "model_invalid_api_key"),
        (Script(upgrade=429), "model_unreachable"),
        (Script(upgrade=500), "model_unreachable"),
    ],
)
async def test_model_error_and_model_disconnect_are_apologized_for(world, model, script, code):
    async with model(script):
        ringing = world.ring()
        if script.turns:
            await ringing.person.hears("Hello.")
            await ringing.person.say("Hello")
        call = await world.over(ringing)
    said = [event["text"] for event in ringing.journal.of("twiml") if event["verb"] == "Say"]
    assert said == [APOLOGY]
    assert (await world.told("error"))["code"] == code
    assert call.ended_reason == ("model_disconnected" if "disconn" in code else "model_error")


@pytest.mark.parametrize("broken", [Drop(), Close(1011, "restarting"), Error("session_expired")])
async def test_a_call_goes_on_when_the_models_session_breaks(world, model, broken):
    async with model(Script(turns=[Say("Sure.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Can you hear me")
        await ringing.person.hears("Sure.")
        openai.sessions[0].disturb(broken)
        await until(lambda: len(openai.sessions) == 2)
        await ringing.person.say("And now")
        await until(lambda: openai.sessions[1].sent_of("response.done"))
        call = await world.hang_up(ringing)
    end = await world.told("end")
    assert [line["text"] for line in end["transcript"]] == [
        *("Hello.", "Can you hear me", "Sure.", "And now", "Sure.")
    ]
    recalled = [event["item"] for event in openai.sessions[1].received_of(CREATE)]
    assert [item["content"][0]["text"] for item in recalled] == [
        *("Hello.", "Can you hear me", "Sure.")
    ]
    assert call.ended_reason == "caller_hangup"
    assert "error" not in world.backend.received


async def test_what_the_caller_says_while_a_session_opens_is_heard_each_time(
    world, model, monkeypatch
):
    monkeypatch.setattr(runner, "MOST_EARLY_BYTES", 120 * 216)  # frames of 20 ms in base64
    async with model(Script(turns=[Say("Sure.")])) as openai:
        openai.opens.clear()
        ringing = world.ring()
        await ringing.person.until_connected()
        await ringing.person.say("Can you hear me before the model does or is it too early")
        openai.opens.set()
        await ringing.person.hears("Sure.")
        openai.opens.clear()
        openai.sessions[0].disturb(Drop())
        await until(lambda: len(openai.sessions) == 2)
        await ringing.person.say("And now")
        openai.opens.set()
        await until(lambda: openai.sessions[1].sent_of("response.done"))
        await world.hang_up(ringing)
    heard = [line["text"] for line in (await world.told("end"))["transcript"]]
    assert heard[-2:] == ["And now", "Sure."]


async def test_a_model_that_takes_over_waits_for_a_caller_who_does_not_keep_up(world, model):
    async with model(Script(turns=[Say("Sure.")])) as openai:
        ringing = await world.greeted()
        (runner,) = world.media.calls._runners.values()
        runner.caller_blocked()
        openai.sessions[0].disturb(Drop())
        await until(lambda: runner._listening is not None and len(openai.sessions) == 2)
        await until(lambda: not is_read(runner._model))
        runner.caller_unblocked()
        await ringing.person.say("And now")
        await ringing.person.hears("Sure.")
        await world.hang_up(ringing)


def is_read(socket):
    return socket._transport.underlying_transport.is_reading()


async def test_a_tool_that_runs_while_the_models_session_breaks_is_answered_once(world, model):
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(body):
        is_asked.set()
        await may_answer.wait()
        return web.json_response({"result": "table seven"})

    world.backend.tool = slow
    async with model(Script(turns=[CallTool("book_table", {}), Say("Done.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await asyncio.wait_for(is_asked.wait(), 5)
        openai.script = Script(turns=[Say("Done.")])
        openai.sessions[0].disturb(Drop())
        await until(lambda: len(openai.sessions) == 2 and openai.sessions[1].received_of(CREATE))
        may_answer.set()
        await ringing.person.hears("Done.")
        await world.hang_up(ringing)
    items = [event["item"] for event in openai.sessions[1].received_of(CREATE)]
    assert [item["type"] for item in items[-2:]] == ["function_call", "function_call_output"]
    assert len((await world.told("end"))["toolCalls"]) == 1


async def test_a_wrong_openai_key_is_named(world, model):
    world.backend.plan["openaiApiKey"] = "sk-wrong"
    async with model():
        await world.over(world.ring())
    assert (await world.told("error"))["code"] == "model_invalid_api_key"


async def test_a_model_error_that_is_not_fatal_does_not_end_the_call(world, model):
    turns = [Fail("server_error"), Say("Now it works.")]
    async with model(Script(turns=turns)):
        ringing = await world.greeted()
        await ringing.person.say("Hello")
        await ringing.person.hears("Now it works.")
        await world.hang_up(ringing)
    await world.work()
    assert world.backend.to("error") == []


async def test_silence(world, model):
    world.backend.plan["inactivityTimeoutMs"] = 1000
    async with model():
        call = await world.over(world.ring())
    assert call.ended_reason == "inactivity"


async def test_length_limit(world, model):
    world.backend.plan["maxDurationSeconds"] = 1
    async with model():
        call = await world.over(world.ring())
    assert call.ended_reason == "max_duration"
    assert call.duration_seconds in (1, 2)


async def test_end_call_lets_the_goodbye_be_heard(world, model):
    turns = [(Say("It was a pleasure. Goodbye."), CallTool("end_call", {}))]
    async with model(Script(turns=turns)):
        ringing = await world.greeted()
        await ringing.person.say("That is all")
        call = await world.over(ringing)
    assert "It was a pleasure. Goodbye." in ringing.line.heard
    assert call.ended_reason == "agent_hangup"


async def test_transfer_call_dials(world, model):
    turns = [(Say("One moment."), CallTool("transfer_call", {"to": "+15559876543"}))]
    async with model(Script(turns=turns)):
        ringing = await world.greeted()
        await ringing.person.say("A human please")
        await ringing.journal.wait_for("dials")
        call = await world.hang_up(ringing)
    assert "One moment." in ringing.line.heard
    assert call.ended_reason == "transferred"


@pytest.mark.parametrize("number", ["+882130000000", "+19002345678", "+112125550143", NUMBER])
async def test_transfer_call_dials_no_number_that_may_not_be_called(world, model, number):
    turns = [CallTool("transfer_call", {"to": number}), Say("I cannot.")]
    async with model(Script(turns=turns)) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Put me through to the satellite")
        await ringing.person.hears("I cannot.")
        call = await world.hang_up(ringing)
    (created,) = openai.sessions[0].received_of("conversation.item.create")
    assert "may be called" in created["item"]["output"]
    assert not ringing.journal.of("dials")
    assert call.ended_reason == "caller_hangup"


async def test_keys_reach_the_model_and_the_model_presses_keys(world, model):
    turns = [CallTool("send_dtmf", {"digits": "12"}), Say("Pressed.")]
    async with model(Script(turns=turns)) as openai:
        ringing = await world.greeted()
        await ringing.person.press("42#")
        await ringing.person.hears("Pressed.")
        await world.hang_up(ringing)
    created = openai.sessions[0].received_of("conversation.item.create")
    assert created[0]["item"]["content"][0]["text"] == "[The caller pressed on the keypad: 42#]"
    assert created[1]["item"]["output"] == '{"sent": "12"}'


async def test_a_hang_up_over_the_api(world, model, alice_api):
    async with model():
        ringing = await world.greeted()
        response = await in_database(alice_api.post, f"/api/calls/{ringing.sid}/hangup")
        assert response.status_code == 202
        call = await world.over(ringing)
    assert call.ended_reason == "api_hangup"


async def test_caller_hang_up_while_the_agent_speaks(world, model):
    async with model(Script(turns=[Say(LONG)])):
        ringing = await world.greeted()
        await ringing.person.say("Tell me everything")
        await ringing.person.hears("This is")
        await world.hang_up(ringing)
    end = await world.told("end")
    assert end["transcript"][-1]["interrupted"]


async def test_a_socket_that_breaks_again_and_again_ends_the_call(world, model):
    async with model():
        ringing = await world.greeted()
        dropped = set()
        for _ in range(3):
            await until(lambda: talking(world) - dropped)
            dropped.update(talking(world))
            ringing.stream.drop()
        call = await world.over(ringing)
    assert call.ended_reason == "caller_hangup"
    assert len(ringing.journal.of("stream-connected")) == 3


def talking(world):
    """Return what runs the calls in which a conversation has begun."""
    runners = world.media.calls._runners.values()
    return {runner for runner in runners if runner._session.phase is Phase.TALKING}


class TestConnectingToTheModel:
    @pytest.mark.parametrize("refusals", [[429, 500], [502, 503], [DROPPED]])
    async def test_a_temporary_failure_is_retried_twice(self, world, model, refusals):
        async with model() as openai:
            openai.refusals = refusals
            ringing = await world.greeted()
            await world.hang_up(ringing)
        await world.work()
        assert world.backend.to("error") == []

    @pytest.mark.parametrize("statuses", [[401], [403], [503, 503, 503]])
    async def test_another_refusal_is_not_retried(self, world, model, statuses):
        async with model() as openai:
            openai.refusals = [*statuses, 101]
            await world.over(world.ring())
            assert openai.refusals == [101]
        assert (await world.told("error"))["code"].startswith("model_")

    @pytest.mark.parametrize("why", ["retired", "refused"])
    async def test_the_next_model_follows_one_that_does_not_start(self, world, model, why):
        preferred, other = "gpt-realtime-2.1", "gpt-realtime-2"
        world.backend.plan["model"] = [preferred, other]
        async with model(Script(turns=[Say("I heard you.")])) as openai:
            openai.retired = {preferred} if why == "retired" else set()
            openai.refusals = [404] if why == "refused" else []
            ringing = await world.greeted()
            await ringing.person.say("Hello")
            await ringing.person.hears("I heard you.")
            call = await world.hang_up(ringing)
        assert [each.query["model"] for each in openai.sessions] == [preferred, other]
        end = await world.told("end")
        assert end["model"] == other
        assert [line["text"] for line in end["transcript"]] == ["Hello.", "Hello", "I heard you."]
        kinds = await world.timeline(call)
        assert kinds.index("model_fallback") < kinds.index("model_ready")
        assert world.backend.to("error") == []

    async def test_nothing_waits_for_its_first_event(self, world, model):
        silence = When("open", (), instead=True)
        async with model(Script(turns=[Say("I heard you.")], when=[silence])) as openai:
            ringing = await world.greeted()
            await ringing.person.say("Hello")
            await ringing.person.hears("I heard you.")
            await world.hang_up(ringing)
        (session,) = openai.sessions
        assert not session.sent_of("session.created")
        first = [event["type"] for event in session.received[:2]]
        assert first == ["session.update", "response.create"]

    async def test_keys_pressed_before_it_opens_follow_the_greeting(self, world, model):
        async with model(Script(turns=[Say("You pressed two keys.")])) as openai:
            openai.opens.clear()
            ringing = world.ring()
            await ringing.person.until_connected()
            await ringing.person.press("1#")
            await openai.wait_for(lambda server: server.sessions)
            openai.opens.set()
            await ringing.person.hears("Hello.")
            await ringing.person.hears("You pressed two keys.")
            await world.hang_up(ringing)
        (created,) = openai.sessions[0].received_of("conversation.item.create")
        assert created["item"]["content"][0]["text"] == "[The caller pressed on the keypad: 1#]"


async def test_what_the_model_says_twice_is_done_once(world, model):
    script = Script(
        turns=[CallTool("book_table", {}), Say("Booked.")],
        twice={"session.created", "response.created", "response.done"},
    )
    async with model(script) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await ringing.person.hears("Booked.")
        await world.hang_up(ringing)
    assert len(world.backend.to("tool")) == 1
    assert len(openai.sessions[0].received_of("session.update")) == 1
    call = await in_database(Call.objects.get, call_sid=ringing.sid)
    assert (await world.timeline(call)).count("tool_called") == 1


async def test_a_tool_that_runs_when_the_caller_hangs_up_may_finish(world, model):
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(body):
        is_asked.set()
        await may_answer.wait()
        return web.json_response({"result": "table seven"})

    world.backend.tool = slow
    async with model(Script(turns=[CallTool("book_table", {})])):
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await asyncio.wait_for(is_asked.wait(), 5)
        ringing.person.hang_up()
        live = Call.objects.filter(call_sid=ringing.sid, ended_at=None)
        await until(lambda: in_database(live.exclude(audio_ended_at=None).exists))
        may_answer.set()
        call = await world.over(ringing)
    assert call.ended_at == call.audio_ended_at
    (tool_call,) = (await world.told("end"))["toolCalls"]
    assert (tool_call["status"], tool_call["result"]) == ("succeeded", "table seven")
    assert "tool_returned" in await world.timeline(call)


async def test_a_byte_order_mark_is_passed_over(world, model):
    async def marked(body):
        return web.Response(body=b"\xef\xbb\xbf" + b'{"result": "table seven"}')

    world.backend.tool = marked
    async with model(Script(turns=[CallTool("book_table", {}), Say("Booked.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await ringing.person.hears("Booked.")
        await world.hang_up(ringing)
    (created,) = openai.sessions[0].received_of("conversation.item.create")
    assert created["item"]["output"] == "table seven"


async def test_the_largest_answer_of_a_tool_reaches_the_model(world, model):
    """Each of its bytes may become six, and the model's socket takes no more than 1 MiB."""
    largest = "\x01" * ((tools.LARGEST_ANSWER - 20) // 6)

    async def large(body):
        return web.json_response({"result": largest})

    world.backend.tool = large
    async with model(Script(turns=[CallTool("book_table", {}), Say("Booked.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await ringing.person.hears("Booked.")
        await world.hang_up(ringing)
    (created,) = openai.sessions[0].received_of("conversation.item.create")
    assert created["item"]["output"] == largest


def held(kind):
    return [each for each in gc.get_objects() if type(each) is kind]


async def test_a_greeting_from_the_cache_is_heard_and_interrupted(world, model):
    world.backend.plan |= {"greetingCache": True, "greeting": LONG}
    async with model(Script(turns=[Say("All right.")])) as openai:
        ringing = world.ring()
        await ringing.person.hears(LONG)
        await until(lambda: in_database(CachedGreeting.objects.of(world.account).exists))
        await world.hang_up(ringing)
        ringing = world.ring()
        await ringing.person.interrupt("Stop")
        await ringing.person.hears("All right.")
        assert held(SpokenGreeting) == []  # the call goes on without it
        call = await world.hang_up(ringing)
    session = openai.sessions[1]
    assert session.received_of("response.create") == []
    told = [event["item"] for event in session.received_of(CREATE)]
    assert [item["role"] for item in told] == ["assistant", "system"]
    assert told[0]["content"][0]["text"] == LONG
    assert ringing.journal.of("clear")[0]["dropped_ms"] > 0
    await world.work()
    transcript = world.backend.to("end")[-1].body["transcript"]
    assert [line["text"] for line in transcript] == [LONG, "Stop", "All right."]
    assert transcript[0]["interrupted"]
    [greeted] = await in_database(list, call.events.filter(kind="greeted"))
    assert greeted.detail == {"ms": call.first_audio_ms, "cached": True}
