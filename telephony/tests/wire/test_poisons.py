"""Malicious values from Twilio, media sockets, backends and the model.

Over real sockets: no 5xx, no exception, and after all of it the next call is answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, product
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from twilio.request_validator import RequestValidator

from core.tests.poisons import POISONS, dealt
from core.texts import text_problem
from sandbox.model import Script
from sandbox.phone.identity import new_sid
from sandbox.tests.customer import ACCOUNT_SID, AUTH_TOKEN, NUMBER, serving
from telephony import links
from telephony.db import in_database
from telephony.models import Call, PhoneNumber
from telephony.voice import webhooks


@pytest.fixture(autouse=True)
async def the_engine_goes_on(world, model, caplog, monkeypatch, settings) -> AsyncIterator[None]:
    """Afterwards a call succeeds, and until then no failure was logged."""
    settings.MAX_CONCURRENT_CALLS = 10**6
    monkeypatch.setattr(webhooks, "_KEEP_ANSWER_S", 0.0)
    yield
    raised = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert [each.getMessage()[:300] for each in raised] == []
    async with model(Script()):
        ringing = await world.greeted()
        assert (await world.hang_up(ringing)).ended_reason == "caller_hangup"


def form(**changes):
    fields = {"CallSid": new_sid("CA"), "AccountSid": ACCOUNT_SID, "From": "+1980", "To": NUMBER}
    return {**fields, **changes}


class TestTwiliosWebhooks:
    async def test_each_field(self, world):
        call = await in_database(outbound, world.account)
        doors = {
            world.phone.voice_url: ("CallSid", "AccountSid", "From", "To", "CallerName", "x"),
            links.outbound_url(call.id): ("CallSid", "AnsweredBy"),
            links.status_url(call.id): ("CallSid", "CallStatus", "Duration", "Timestamp"),
            links.stream_status_url(call.id): ("StreamEvent", "StreamError", "StreamSid"),
            links.after_stream_url(call.id): ("CallSid", "CallStatus"),
        }
        async with aiohttp.ClientSession() as http:
            every = [(url, name) for url, names in doors.items() for name in names]
            for poison, (url, name) in dealt(every):
                fields = form(CallSid=call.call_sid)
                if url == world.phone.voice_url:
                    fields = form()
                if name == "StreamError":
                    fields["StreamEvent"] = "stream-error"
                fields.pop(name, None)
                body = f"{urlencode(fields)}&{name}={poison.encoded}"
                assert await post(http, url, body) < 500, (url, name, poison)

    async def test_each_token(self, world):
        async with aiohttp.ClientSession() as http:
            for poison, purpose in dealt(("answer", "status", "stream", "after")):
                if len(poison.encoded) > 4000:
                    continue  # the server refuses the line
                url = f"{world.phone.voice_url}/{purpose}/"
                for token in (poison.encoded, f"{purpose}.c1%3A{poison.encoded}%3Aa"):
                    assert await post(http, url + token, urlencode(form())) < 500

    async def test_a_caller_with_an_odd_name_is_transferred(self, world):
        fields = form(From="Anna\0\x1b K\u0131l\u0131\u00e7\U0001f355")
        signature = RequestValidator(AUTH_TOKEN).compute_signature(world.phone.voice_url, fields)
        headers = {"X-Twilio-Signature": signature}
        async with (
            aiohttp.ClientSession() as http,
            http.post(world.phone.voice_url, data=fields, headers=headers) as answer,
        ):
            assert "<Connect" in await answer.text()
        call = await in_database(Call.objects.get, call_sid=fields["CallSid"])
        assert call.caller_phone == "Anna K\u0131l\u0131\u00e7\U0001f355"


async def post(http, url, body):
    kind = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": "a"}
    async with http.post(aiohttp.client.URL(url, encoded=True), data=body, headers=kind) as answer:
        await answer.read()
        return answer.status


def outbound(account):
    return Call.objects.create(
        account=account,
        call_sid=new_sid("CA"),
        direction="outbound",
        status="in-progress",
        caller_phone=NUMBER,
        called_number="+19805551234",
        on_call_start_url="http://127.0.0.1:9/",
        on_call_end_url="http://127.0.0.1:9/",
    )


START = json.dumps(
    {
        "event": "start",
        "start": {
            "streamSid": "MZ1",
            "accountSid": ACCOUNT_SID,
            "callSid": "CA1",
            "customParameters": {"ticket": "c1.a"},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    }
)
MESSAGES = (
    '{"event": "media", "media": {"track": "inbound", "payload": "fwAA"}}',
    '{"event": "dtmf", "dtmf": {"digit": "1"}}',
    '{"event": "text", "text": {"body": "Hi"}}',
    '{"event": "mark", "mark": {"name": "1"}}',
)


def spoiled(message, poison):
    """Yield the message with the poison in the place of each of its values."""
    data = json.loads(message)
    for path in _paths(data):
        yield json.dumps(_with(data, path, "@")).replace('"@"', poison.json)
    yield poison.json


def _paths(data, above=()):
    for name, value in data.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from _paths(value, (*above, name))


def _with(data, path, value):
    first, *rest = path
    return data | {first: _with(data[first], rest, value) if rest else value}


class TestTheMediaSocket:
    async def test_the_first_message(self, world):
        """Each on its own socket: an invalid ticket closes it, everything else is ignored."""
        async with aiohttp.ClientSession() as http:
            for poison in POISONS:
                texts = [text for text in spoiled(START, poison) if len(text) < 60_000]
                for text in texts:
                    async with http.ws_connect(media_url(world)) as socket:
                        await socket.send_str(text)
                        await socket.send_str(START)
                        await socket.receive(timeout=30)
                        assert socket.close_code == 1008

    async def test_during_a_call(self, world, model):
        async with model(Script()) as openai:
            ringing = await world.greeted()
            for poison, message in product(POISONS, MESSAGES):
                for text in spoiled(message, poison):
                    if len(text) < 60_000:
                        await ringing.stream._socket.send_str(text)
            call = await world.hang_up(ringing)
        assert call.ended_reason == "caller_hangup"
        for event in openai.sessions[0].received_of("input_audio_buffer.append"):
            assert set(event) == {"type", "audio"}


def media_url(world):
    return f"ws://127.0.0.1:{world.media_port}/media"


FIELDS = (
    *("twilioAccountSid", "twilioAuthToken", "openaiApiKey", "systemPrompt", "onToolCallUrl"),
    *("tools", "builtinTools", "voice", "model", "vadEagerness", "noiseReduction", "greeting"),
    *("greetingUrl", "inactivityTimeoutMs", "maxDurationSeconds", "metadata"),
    *("reject", "reason", "message", "transfer"),
)
TOOL = '[{{"name": {0}, "description": {0}, "parameters": {{"a": {0}}}}}]'


class TestTheBackend:
    async def test_each_field_of_an_answer(self, world):
        answers = []

        async def answer(request):
            return web.Response(text=answers[-1], content_type="application/json")

        async with serving(answer) as url, aiohttp.ClientSession() as http:
            await in_database(PhoneNumber.objects.update, on_call_start_url=f"{url}/start")
            for poison, name in dealt(("", "a tool", *FIELDS)):
                answers.append(_poisoned(world.backend.plan, name, poison.json))
                status = await post(http, world.phone.voice_url, urlencode(form()))
                assert status < 500, (name, poison)
        await in_database(
            PhoneNumber.objects.update, on_call_start_url=f"{world.backend.url}/start"
        )


def _poisoned(plan, name, poison):
    """Return the answer with a poison in a field, within a tool, or in its place."""
    match name:
        case "":
            return poison
        case "a tool":
            return _answer(plan, "tools", TOOL.format(poison))
    return _answer(plan, name, poison)


def _answer(plan, name, value):
    return json.dumps(plan | {name: "@"}).replace('"@"', value)


# Each event of the model's that says something, as far as it is read.
EVENTS = (
    '{"type": "input_audio_buffer.speech_started", "item_id": "i1"}',
    '{"type": "input_audio_buffer.speech_stopped", "item_id": "i1"}',
    '{"type": "conversation.item.added", "previous_item_id": null, "item": '
    '{"id": "i1", "type": "message", "role": "user"}}',
    '{"type": "conversation.item.input_audio_transcription.completed", "item_id": "i1", '
    '"transcript": "Hello", "usage": {"type": "duration", "seconds": 1}}',
    '{"type": "response.created", "response": {"id": "r1"}}',
    '{"type": "response.output_audio_transcript.done", "item_id": "i2", "transcript": "Yes"}',
    '{"type": "response.output_audio.delta", "item_id": "i2", "delta": "fwAA"}',
    '{"type": "response.output_audio.done", "item_id": "i2"}',
    '{"type": "response.done", "response": {"id": "r1", "status": "completed", "usage": '
    '{"input_token_details": {"text_tokens": 1, "audio_tokens": 1, "cached_tokens_details": '
    '{"text_tokens": 1}}, "output_token_details": {"audio_tokens": 1}}}}',
    '{"type": "error", "error": {"type": "a", "code": "b", "message": "c"}}',
)
CALL_OF_A_TOOL = (
    '{{"type": "response.done", "response": {{"status": "completed", "output": '
    '[{{"type": "function_call", "status": "completed", "call_id": {0}, "name": {1}, '
    '"arguments": {2}}}]}}}}'
)


class TestTheModel:
    async def test_each_field_of_an_event(self, world, settings):
        """The call continues to its end; its transcript lacks what cannot be stored."""
        is_over = asyncio.Event()

        async def tool(body):
            if body["arguments"].get("is_last"):
                is_over.set()
            return web.json_response({"result": None})

        world.backend.tool = tool
        async with poisonous_model(settings):
            ringing = world.ring()
            await asyncio.wait_for(is_over.wait(), 30)
            call = await world.hang_up(ringing)
        assert call.ended_reason == "caller_hangup"
        end = await world.told("end")
        texts = [line["text"] for line in end["transcript"]]
        assert "a\ufffdb" in texts
        assert not [text for text in texts if text_problem(text)]
        assert end["costBreakdown"]["totalCost"] < 10_000


@asynccontextmanager
async def poisonous_model(settings):
    """Serve a model that gets ready, says the poisons, and then calls a tool for the last time."""

    async def serve(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for kind in ("session.created", "session.updated"):
            await socket.send_json({"type": kind})
        for poison, event in product(POISONS, EVENTS):
            for text in spoiled(event, poison):
                await socket.send_str(text)
        call_ids = (f'"c{number}"' for number in count())
        for poison in POISONS:
            quoted = json.dumps(poison.json)
            for values in (
                (poison.json, '"a"', '"{}"'),
                (next(call_ids), poison.json, '"{}"'),
                (next(call_ids), '"book_table"', quoted),
                (next(call_ids), '"send_dtmf"', quoted),
                (next(call_ids), '"book_table"', poison.json),
            ):
                await socket.send_str(CALL_OF_A_TOOL.format(*values))
        await socket.send_json(LAST_WORDS)
        await socket.send_str(
            CALL_OF_A_TOOL.format('"last"', '"book_table"', json.dumps('{"is_last": true}'))
        )
        async for _ in socket:
            pass
        return socket

    async with serving(serve) as url:
        settings.OPENAI_REALTIME_URL = url.replace("http", "ws")
        yield


LAST_WORDS = {
    "type": "response.output_audio_transcript.done",
    "item_id": "last",
    "transcript": "a\0b",
}
