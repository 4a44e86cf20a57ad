"""An engine is told to stop while calls are on their way into it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import aiohttp
import orjson
import psycopg
from aiohttp import web

from devtools.attack.product import PORTS
from devtools.attack.voice import Twiml, new_call_sid, read, ring
from devtools.attack.web import Answer
from devtools.chaos.crowd import Customer, Placed, introduce
from devtools.chaos.invariants import check
from devtools.chaos.report import Notes
from devtools.chaos.scene import Scene
from devtools.chaos.waiting import seconds_until, until

KILLS = ("engine", "engine-2")
_CALLS = 10
_LATE = 3  # that come while the engine stops
_STOPS_WITHIN_S = 40.0
_LOCK = "SELECT FROM telephony_call WHERE call_sid = ANY(%s) FOR UPDATE"
_BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

Waiting = tuple[Customer, str, Twiml, aiohttp.ClientWebSocketResponse]


async def run(scene: Scene, notes: Notes) -> None:
    edges = (_while_tickets_are_looked_up, _while_webhooks_are_answered, _before_start)
    for edge in edges[:1] if scene.is_short else edges:
        await _deploy(scene, notes, edge)


async def _deploy(
    scene: Scene, notes: Notes, edge: Callable[[Scene, Notes], Awaitable[list[Placed]]]
) -> None:
    """Bring calls to the edge, stop the engine, and see that none is lost."""
    talking = await scene.crowd.fill(4, engine="engine")
    placed = await edge(scene, notes)
    late = [await scene.crowd.place(scene.crowd.customers[n]) for n in range(_LATE)]
    notes.measure(f"{edge.__name__.strip('_').replace('_', ' ')}", f"{len(placed)} of {_CALLS}")
    talks = await until(lambda: all(each.call.heard for each in placed), within=20)
    await scene.crowd.until_talking(late)
    for each in [*placed, *talking, *late]:
        notes.expect(
            "A call at the edge of a stop talks in the end.",
            bool(each.call.heard) and each.call.is_open,
            sent=f"{edge.__name__}, at {each.engine}",
            came=f"all heard something: {talks}; open: {each.call.is_open}",
        )
    notes.expect(
        "No call is lost to a stop.",
        len(placed) == _CALLS,
        sent=f"{_CALLS} calls, {edge.__name__}",
        came=f"{len(placed)} were connected",
    )
    await scene.crowd.hang_up([*placed, *talking, *late])
    process = scene.field.product.processes["engine"].popen
    took = await seconds_until(lambda: process.poll() is not None, within=_STOPS_WITHIN_S)
    notes.within("an engine has stopped, once nobody talks", took, _STOPS_WITHIN_S)
    notes.expect("An engine that is stopped ends with 0.", process.poll() == 0, came=process.poll())
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    scene.field.product.begin("engine")
    await scene.field.product.until_ready(PORTS["engine"])
    await check(scene, notes, [*placed, *talking, *late])


def _terminate(scene: Scene) -> None:
    scene.field.product.processes["engine"].popen.send_signal(signal.SIGTERM)


async def _is_draining(scene: Scene) -> bool:
    answer = await scene.crowd.proxy.engine("engine").ask("GET", "/readyz", patience=5)
    return answer.status != 200


async def _tickets(scene: Scene, notes: Notes) -> list[Waiting]:
    """Let people ring and open their media sockets at the engine; nobody has introduced himself."""
    waiting = []
    for number in range(_CALLS):
        customer = scene.crowd.customers[number % len(scene.crowd.customers)]
        sid = new_call_sid()
        line = customer.line
        answer = await ring(scene.crowd.proxy, to=line.number, account=line.twilio, call_sid=sid)
        told = read(answer)
        if notes.expect("An ordinary ring is taken.", told.connects, came=answer):
            _, socket = await scene.crowd.proxy.open_media(line.twilio, "engine")
            waiting.append((customer, sid, told, socket))
    return waiting


async def _while_tickets_are_looked_up(scene: Scene, notes: Notes) -> list[Placed]:
    waiting = await _tickets(scene, notes)
    connecting = psycopg.AsyncConnection.connect(scene.postgres.url)
    async with await connecting as connection:
        await connection.execute(_LOCK, [[sid for _, sid, *_ in waiting]])
        placed = [await _introduce(scene, one) for one in waiting]

        async def wait_for_the_lock() -> bool:
            return int((await scene.query(_BLOCKED))[0][0]) >= min(_CALLS, 8)

        notes.expect(
            "Tickets are being looked up.", await until(wait_for_the_lock, within=10), sent=_BLOCKED
        )
        _terminate(scene)
        await until(lambda: _is_draining(scene), within=10)
        await connection.rollback()
    return placed


async def _before_start(scene: Scene, notes: Notes) -> list[Placed]:
    waiting = await _tickets(scene, notes)
    _terminate(scene)
    await until(lambda: _is_draining(scene), within=10)
    return [await _introduce(scene, one) for one in waiting]


async def _introduce(scene: Scene, waiting: Waiting) -> Placed:
    customer, sid, told, socket = waiting
    await introduce(socket, customer.line.twilio, sid, told)
    return scene.crowd.know(customer, sid, told, "engine", socket)


async def _while_webhooks_are_answered(scene: Scene, notes: Notes) -> list[Placed]:
    """The backend thinks while the engine is stopped; the audio goes wherever it is taken."""
    customer = scene.crowd.customers[-1]
    usual, asked, may_answer = customer.line.desk.answer, [], asyncio.Event()

    async def think(_request: web.Request) -> web.Response:
        asked.append(time.monotonic())
        await may_answer.wait()
        return web.Response(body=orjson.dumps(usual), content_type="application/json")

    customer.line.desk.answer = think
    sids = [new_call_sid() for _ in range(_CALLS)]
    try:
        rings = [asyncio.create_task(_ring(scene, customer, sid)) for sid in sids]
        await until(lambda: len(asked) == _CALLS, within=8)
        _terminate(scene)
        await until(lambda: _is_draining(scene), within=10)
        may_answer.set()
        answers = await asyncio.gather(*rings)
    finally:
        customer.line.desk.answer = usual
    connected = [
        await scene.crowd.connect(customer, sid, answer)
        for sid, answer in zip(sids, answers, strict=True)
    ]
    for answer in answers:
        notes.expect("A webhook in flight is answered.", read(answer).connects, came=answer)
    return [each for each in connected if each is not None]


async def _ring(scene: Scene, customer: Customer, sid: str) -> Answer:
    engine = scene.crowd.proxy.engine("engine")
    line = customer.line
    return await ring(engine, to=line.number, account=line.twilio, call_sid=sid)
