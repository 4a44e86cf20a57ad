"""A misbehaving model, over the wire; the pure tests have every branch."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from sandbox.model import Call as CallTool
from sandbox.model import Error, Incomplete, Say, Script, When
from sandbox.tests.customer import serving


async def test_a_refused_greeting_is_asked_for_again(world, model):
    refused = When("response.create", (Error("server_error"),), instead=True)
    async with model(Script(when=[refused])) as openai:
        ringing = await world.greeted()
        await world.hang_up(ringing)
    first, second = openai.sessions[0].received_of("response.create")
    assert second["response"] == first["response"]
    await world.work()
    assert world.backend.to("error") == []


async def test_an_error_about_something_else_while_it_starts_is_no_refusal(world, model):
    strange = When("response.create", (Error("odd_error"),))
    async with model(Script(when=[strange])):
        ringing = await world.greeted()
        await world.hang_up(ringing)
    await world.work()
    assert world.backend.to("error") == []


@pytest.mark.parametrize("arguments", ['{"n":NaN}', '{"n":1e999}', "[" * 1_500 + "]" * 1_500])
async def test_arguments_that_cannot_be_passed_on_are_answered(world, model, arguments):
    async with model(Script(turns=[CallTool("book_table", arguments), Say("Sorry.")])) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await ringing.person.hears("Sorry.")
        await world.hang_up(ringing)
    (created,) = openai.sessions[0].received_of("conversation.item.create")
    assert json.loads(created["item"]["output"]) == {
        "error": "The arguments are not a JSON object."
    }
    assert world.backend.to("tool") == []


async def test_a_filtered_answer_is_explained(world, model):
    turns = [Incomplete("content_filter"), Say("I cannot say that.")]
    async with model(Script(turns=turns)):
        ringing = await world.greeted()
        await ringing.person.say("Say something bad")
        await ringing.person.hears("I cannot say that.")
        await world.hang_up(ringing)


async def test_an_answer_that_was_cut_off_before_a_word_is_asked_for_again(world, model):
    async with model(Script(turns=[Incomplete(), Say("Here I am.")])):
        ringing = await world.greeted()
        await ringing.person.say("Hello?")
        await ringing.person.hears("Here I am.")
        await world.hang_up(ringing)


async def test_a_transcript_that_comes_after_the_caller_has_gone_is_kept(world, model):
    script = Script(turns=[Say("Yes.")], transcripts_ms=[3_000])
    async with model(script, pace=1.0) as openai:
        ringing = await world.greeted()
        await ringing.person.say("Is anybody there")
        await openai.wait_for(
            lambda server: server.sessions[0].sent_of("input_audio_buffer.speech_stopped")
        )
        await world.hang_up(ringing)
    transcript = (await world.told("end"))["transcript"]
    assert "Is anybody there" in [line["text"] for line in transcript]


# No JSON that we may write holds it.
HALF_AN_EMOJI = (
    r'{"type": "response.done", "response": {"id": "r1", "output": [{"type": "message", "content": '
    r'[{"type": "output_audio", "transcript": "One moment \ud83d"}]}, {"type": "function_call", '
    r'"call_id": "c1", "name": "book_table", "arguments": "{}"}]}}'
)


async def test_half_an_emoji_spoils_nothing_else_of_a_response(world, settings):
    has_run = asyncio.Event()

    async def tool(body):
        has_run.set()
        return web.json_response({"result": None})

    async def serve(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for kind in ("session.created", "session.updated"):
            await socket.send_json({"type": kind})
        await socket.send_str(HALF_AN_EMOJI)
        async for _ in socket:
            pass
        return socket

    world.backend.tool = tool
    async with serving(serve) as url:
        settings.OPENAI_REALTIME_URL = url.replace("http", "ws")
        ringing = world.ring()
        await asyncio.wait_for(has_run.wait(), 10)
        call = await world.hang_up(ringing)
    assert call.ended_reason == "caller_hangup"
