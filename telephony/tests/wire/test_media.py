"""The memory that a media socket may use before its ticket is accepted."""

from __future__ import annotations

import asyncio
import gc
import json

import aiohttp
import psycopg
from django.utils import timezone

from core import self_check
from core.tests.waiting import until
from core.tests.web import database_url
from telephony.db import in_database
from telephony.engine.events import DigitPressed
from telephony.models import Call
from telephony.tests.wire.test_forgeries import start, ticket_in
from telephony.tests.wire.test_refusals import form, post
from telephony.voice.caller_side import CallerSide
from telephony.voice.unadmitted import UnadmittedSockets

# As the end of a server ends its sessions.
END_WHO_WAITS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))
"""
FRAME = {"event": "media", "media": {"payload": "A" * 60_000}}


def kept():
    """Return how many bytes the open sockets of this process keep for calls that may come."""
    sides = [each for each in gc.get_objects() if isinstance(each, CallerSide)]
    return sum(side._waiting_bytes for side in sides)


async def socket_of(world, session):
    return await session.ws_connect(f"ws://127.0.0.1:{world.media.port}/media")


async def test_nothing_is_kept_before_the_start_message(world):
    async with aiohttp.ClientSession() as session:
        socket = await socket_of(world, session)
        await socket.send_json(FRAME)
        for _ in range(30):
            await socket.send_json({"event": "media", "media": {"payload": "A" * 60}})
        await socket.send_json({"event": "dtmf", "dtmf": {"digit": "1"}})
        await socket.ping()
        await _answered(world)
        assert kept() == 0
        await socket.close()


async def test_a_little_is_kept_while_the_ticket_is_looked_up(world):
    side = CallerSide(world.media.calls, UnadmittedSockets(), "")
    side._admission = asyncio.get_running_loop().create_future()  # it is being looked up
    for _ in range(300):
        side._keep(b"A" * 60_000)
    assert side._waiting_bytes <= 64 << 10
    for _ in range(10_000):
        side._keep(DigitPressed("1"))
    assert side._waiting_bytes <= 64 << 10
    assert len(side._waiting) < 300


async def test_a_socket_without_a_ticket_is_closed(world):
    async with aiohttp.ClientSession() as session:
        socket = await socket_of(world, session)
        await socket.send_json(start(form()["CallSid"], "no ticket"))
        for _ in range(300):
            await socket.send_json(FRAME)
        async with asyncio.timeout(10):
            async for _ in socket:
                pass
        assert socket.close_code == 1008
    assert kept() == 0


async def test_an_engine_answers_a_challenge_of_its_installation(world):
    challenge = self_check.new_challenge()
    headers = {self_check.HEADER: challenge, "X-Forwarded-For": "192.0.2.1"}
    async with aiohttp.ClientSession(headers=headers) as session:
        socket = await socket_of(world, session)
        answer = (await socket.receive(5)).data
        assert (await socket.receive(5)).type == aiohttp.WSMsgType.CLOSE
    facts = self_check.read_answer(answer.encode(), challenge)
    assert facts["engine_id"] == world.media.calls.engine_id
    assert facts["forwarded_for"] == "192.0.2.1"
    # A socket that brings another challenge waits for its start like any other.
    async with aiohttp.ClientSession(headers={self_check.HEADER: "x"}) as session:
        socket = await socket_of(world, session)
        await socket.send_json(start(form()["CallSid"], "no ticket"))
        assert (await socket.receive(5)).data == 1008


async def test_a_ticket_is_looked_up_again_if_the_database_was_away(world, model):
    fields = form()
    async with model(), aiohttp.ClientSession() as session:
        _, twiml = await post(world, fields)
        with psycopg.connect(database_url(), autocommit=True) as other, other.transaction():
            other.execute("SELECT FROM telephony_call FOR UPDATE")
            socket = await socket_of(world, session)
            await socket.send_json(start(fields["CallSid"], ticket_in(twiml)))
            await until(lambda: other.execute(END_WHO_WAITS).rowcount)
            back_at = timezone.now()
        assert json.loads(await socket.receive_str(timeout=20))["event"] == "media"
        await socket.close()
        await until(lambda: in_database(Call.objects.exclude(ended_at=None).exists))
    assert (await in_database(Call.objects.get)).answered_at < back_at


async def _answered(world):
    """Return once the listener has read what was sent to it so far, on another socket."""
    async with aiohttp.ClientSession() as session:
        socket = await socket_of(world, session)
        await socket.send_json(start(form()["CallSid"], "no ticket"))
        async with asyncio.timeout(10):
            async for _ in socket:
                pass
