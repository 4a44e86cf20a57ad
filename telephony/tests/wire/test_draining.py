"""A draining engine: which calls it still accepts, and which go to another engine."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from core.tests.waiting import until
from sandbox.model import Call as CallTool
from sandbox.model import Script
from telephony.db import in_database
from telephony.models import Call, Process
from telephony.processes import Identity, process_beat
from telephony.tests.wire.test_forgeries import start, ticket_in
from telephony.tests.wire.test_refusals import BUSY, form, post
from telephony.voice import media
from telephony.voice.drain_state import drain_state


@pytest.fixture
def another(transactional_db):
    """Another engine, which accepts calls."""
    process_beat(Identity(Process.Kind.ENGINE, id="another"))


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


async def media_socket(world, session):
    return await session.ws_connect(f"ws://127.0.0.1:{world.media_port}/media")


async def is_closing(world):
    """Begin to drain, and return when that has begun."""
    draining = asyncio.create_task(world.media.drain())
    await until(lambda: not drain_state.is_accepting)
    return draining


async def ended(draining, call_sid):
    await asyncio.wait_for(draining, 30)
    return (await in_database(Call.objects.get, call_sid=call_sid)).ended_reason


async def test_a_running_tool_ends_first_and_others_find_the_port_closed(world, model, another):
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(body):
        is_asked.set()
        await may_answer.wait()
        return web.json_response({"result": "table seven"})

    world.backend.tool = slow
    async with model(Script(turns=[CallTool("book_table", {})])):
        ringing = await world.greeted()
        await ringing.person.say("Book a table")
        await asyncio.wait_for(is_asked.wait(), 10)
        draining = await is_closing(world)
        await until(lambda: is_refused(world))
        assert not draining.done()
        ringing.person.hang_up()
        await ringing.journal.wait_for("ended", within=20)
        may_answer.set()
        assert await ended(draining, ringing.sid) == "caller_hangup"


async def is_refused(world):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", world.media_port)
    except OSError:
        return True
    writer.close()
    return False


async def test_an_issued_ticket_stays_valid(world, model, another, session):
    fields = form()
    async with model():
        _, twiml = await post(world, fields)
        draining = await is_closing(world)
        socket = await media_socket(world, session)
        await socket.send_json(start(fields["CallSid"], ticket_in(twiml)))
        await socket.receive(timeout=10)  # the greeting
        await socket.close()
        assert await ended(draining, fields["CallSid"]) == "caller_hangup"


async def test_a_socket_that_has_not_shown_its_ticket_is_waited_for(world, model, another, session):
    fields = form()
    async with model():
        _, twiml = await post(world, fields)
        socket = await media_socket(world, session)
        draining = await is_closing(world)
        await socket.send_json(start(fields["CallSid"], ticket_in(twiml)))
        await socket.receive(timeout=10)
        await socket.close()
        assert await ended(draining, fields["CallSid"]) == "caller_hangup"


async def test_a_call_whose_backend_is_being_asked_gets_its_socket(world, model, another, session):
    world.backend.may_answer = asyncio.Event()
    fields = form()
    async with model():
        posting = asyncio.create_task(post(world, fields))
        await asyncio.wait_for(world.backend.is_asked.wait(), 10)
        draining = await is_closing(world)
        world.backend.may_answer.set()
        _, twiml = await posting
        socket = await media_socket(world, session)
        await socket.send_json(start(fields["CallSid"], ticket_in(twiml)))
        await socket.receive(timeout=10)
        await socket.close()
        assert await ended(draining, fields["CallSid"]) == "caller_hangup"


async def test_a_proxy_has_time_to_notice(world, model, another, monkeypatch):
    monkeypatch.setattr(media, "NOTICED_WITHIN_S", 60.0)
    async with model():
        draining = asyncio.create_task(world.media.drain())
        await until(lambda: drain_state.has_others)
        ringing = await world.greeted()
        monkeypatch.setattr(media, "NOTICED_WITHIN_S", 0.0)
        await until(lambda: not drain_state.is_accepting)
        assert (await post(world, form()))[0] == 503
        await world.hang_up(ringing)
        await asyncio.wait_for(draining, 30)


async def test_a_new_call_is_sent_to_another_engine(world, model, another):
    async with model():
        ringing = await world.greeted()
        draining = await is_closing(world)
        assert (await post(world, form()))[0] == 503
        assert await in_database(Call.objects.count) == 1
        await world.hang_up(ringing)
        await asyncio.wait_for(draining, 30)


async def test_without_another_engine_calls_are_accepted_while_earlier_ones_last(world, model):
    async with model():
        earlier = await world.greeted()
        draining = asyncio.create_task(world.media.drain())
        later = await world.greeted()
        earlier.person.hang_up()
        await until(lambda: not drain_state.is_accepting)
        assert await post(world, form()) == (200, BUSY)
        assert not draining.done()
        await world.hang_up(later)
        assert await ended(draining, later.sid) == "caller_hangup"
