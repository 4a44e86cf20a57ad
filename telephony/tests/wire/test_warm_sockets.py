"""The model's socket that is opened before the media stream of its call."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from core.tests.waiting import until
from sandbox.model import Drop, Script
from telephony.models import Call
from telephony.tests.engine.conversation import PLAN
from telephony.tests.wire.test_refusals import form, post, stream, ticket_in
from telephony.voice import warm_sockets as module
from telephony.voice.warm_sockets import WarmSockets, warm_sockets


async def opened(openai, count=1):
    """Wait until so many sessions are open; return them."""
    await openai.wait_for(
        lambda server: (
            sum(bool(each.sent_of("session.created")) for each in server.sessions) == count
        )
    )
    return openai.sessions


class TestTheSocket:
    async def test_it_is_open_before_the_stream_and_used_by_its_call(self, world, model):
        async with model() as openai:
            fields = form()
            _, twiml = await post(world, fields)
            (session,) = await opened(openai)
            assert session.received == []
            assert await stream(world, fields["CallSid"], ticket_in(twiml)) is None
            async with asyncio.timeout(10):
                await world.media.calls.wait_until_none()
        assert openai.sessions == [session]
        assert session.received_of("session.update")
        assert len(warm_sockets) == 0

    async def test_one_that_the_model_has_closed_is_replaced(self, world, model):
        async with model() as openai:
            fields = form()
            _, twiml = await post(world, fields)
            (first,) = await opened(openai)
            first.disturb(Drop())
            await until(lambda: len(warm_sockets) == 0)
            assert await stream(world, fields["CallSid"], ticket_in(twiml)) is None
            _, second = await opened(openai, 2)
            async with asyncio.timeout(10):
                await world.media.calls.wait_until_none()
        assert (first.received, second.received_of("session.update") != []) == ([], True)

    async def test_an_unused_one_is_closed(self, world, model, monkeypatch):
        monkeypatch.setattr(module, "UNUSED_S", 0.2)
        async with model() as openai:
            await post(world, form())
            await openai.wait_for(lambda server: server.sessions and server.sessions[0].is_closed)
        assert len(warm_sockets) == 0

    @pytest.mark.parametrize("token", ["", "another"])
    async def test_there_is_none_for_a_call_that_is_not_answered(self, world, model, token):
        async with model() as openai:
            if token:
                await post(world, form(), token=token)
            else:
                world.backend.plan = {"reject": True}
                await post(world, form())
            assert (len(warm_sockets), openai.sessions) == (0, [])

    async def test_one_that_fails_is_the_calls_first_attempt(self, world, model):
        async with model(Script()) as openai:
            openai.refusals = [401, 101]
            fields = form()
            _, twiml = await post(world, fields)
            await openai.wait_for(lambda server: server.refusals == [101])
            assert await stream(world, fields["CallSid"], ticket_in(twiml)) == 1000
            async with asyncio.timeout(10):
                await world.media.calls.wait_until_none()
            assert openai.refusals == [101]


class TestWhenTheyAreOpened:
    """Their number, with an address at which nobody listens."""

    @pytest.fixture
    async def sockets(self, settings):
        settings.OPENAI_REALTIME_URL = "ws://127.0.0.1:1/v1/realtime"
        sockets = WarmSockets()
        sockets.start()
        yield sockets
        sockets.stop()

    async def test_no_more_than_the_limit_at_a_time(self, sockets, monkeypatch):
        monkeypatch.setattr(module, "MOST", 2)
        for _ in range(3):
            sockets.expect(Call(), PLAN)
        assert len(sockets) == 2

    async def test_none_before_a_greeting_that_is_played_first(self, sockets):
        sockets.expect(Call(), replace(PLAN, greeting_url="https://example.com/hello.mp3"))
        assert len(sockets) == 0

    async def test_none_in_a_process_that_does_not_listen(self, sockets):
        sockets.stop()
        sockets.expect(Call(), PLAN)
        assert len(sockets) == 0

    async def test_none_while_few_streams_come_to_this_process(self, sockets):
        for _ in range(3):
            sockets.expect(call := Call(), PLAN)
            sockets._miss(call.id)
        sockets.expect(Call(), PLAN)
        assert len(sockets) == 0
        sockets._count(came=True)
        sockets.expect(Call(), PLAN)
        assert len(sockets) == 1

    async def test_a_second_webhook_for_a_call_replaces_the_first(self, sockets):
        call = Call()
        sockets.expect(call, PLAN)
        sockets.expect(call, PLAN)
        assert len(sockets) == 1

    @pytest.mark.parametrize(
        "other",
        [
            {"openai_api_key": "sk-other"},
            {"model": "gpt-realtime-2"},
            {"openai_base_url": "https://eu.api.openai.com/v1"},
        ],
    )
    async def test_none_is_used_that_another_plan_opened(self, sockets, other):
        sockets.expect(call := Call(), PLAN)
        assert sockets.take(replace(PLAN, **other), SimpleNamespace(call=call)) is None
        assert len(sockets) == 0
