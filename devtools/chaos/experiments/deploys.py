"""An engine is stopped while calls are being connected to it."""

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
from devtools.chaos.invariants import check
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.traffic import Customer, Placed, introduce
from devtools.chaos.waiting import seconds_until, until

KILLS = ("engine", "engine-2")
_CALLS = 10
_LATE = 3  # that arrive while the engine stops
_STOPS_WITHIN_S = 40.0
_LOCK = "SELECT FROM telephony_call WHERE call_sid = ANY(%s) FOR UPDATE"
_BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

Waiting = tuple[Customer, str, Twiml, aiohttp.ClientWebSocketResponse]


async def run(system: System, notes: Notes) -> None:
    edges = (_while_tickets_are_looked_up, _while_webhooks_are_answered, _before_start)
    for edge in edges[:1] if system.is_short else edges:
        await _deploy(system, notes, edge)


async def _deploy(
    system: System, notes: Notes, edge: Callable[[System, Notes], Awaitable[list[Placed]]]
) -> None:
    """Bring calls to each stage, stop the engine, and check that none is lost."""
    talking = await system.traffic.fill(4, engine="engine")
    placed = await edge(system, notes)
    late = [await system.traffic.place(system.traffic.customers[n]) for n in range(_LATE)]
    notes.measure(f"{edge.__name__.strip('_').replace('_', ' ')}", f"{len(placed)} of {_CALLS}")
    talks = await until(lambda: all(each.call.heard for each in placed), within=20)
    await system.traffic.until_talking(late)
    for each in [*placed, *talking, *late]:
        notes.expect(
            "A call that is connecting at the stop is connected.",
            bool(each.call.heard) and each.call.is_open,
            sent=f"{edge.__name__}, at {each.engine}",
            came=f"all heard something: {talks}; open: {each.call.is_open}",
        )
    notes.expect(
        "No call is lost when an engine stops.",
        len(placed) == _CALLS,
        sent=f"{_CALLS} calls, {edge.__name__}",
        came=f"{len(placed)} were connected",
    )
    await system.traffic.hang_up([*placed, *talking, *late])
    process = system.context.product.processes["engine"].popen
    took = await seconds_until(lambda: process.poll() is not None, within=_STOPS_WITHIN_S)
    notes.within("an engine has stopped, after its last call", took, _STOPS_WITHIN_S)
    notes.expect("A stopped engine exits with 0.", process.poll() == 0, came=process.poll())
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    system.context.product.begin("engine")
    await system.context.product.until_ready(PORTS["engine"])
    await check(system, notes, [*placed, *talking, *late])


def _terminate(system: System) -> None:
    system.context.product.processes["engine"].popen.send_signal(signal.SIGTERM)


async def _is_draining(system: System) -> bool:
    answer = await system.traffic.proxy.engine("engine").ask("GET", "/readyz", patience=5)
    return answer.status != 200


async def _tickets(system: System, notes: Notes) -> list[Waiting]:
    """Ring and open media sockets at the engine, without sending ``start``."""
    waiting = []
    for number in range(_CALLS):
        customer = system.traffic.customers[number % len(system.traffic.customers)]
        sid = new_call_sid()
        line = customer.line
        answer = await ring(system.traffic.proxy, to=line.number, account=line.twilio, call_sid=sid)
        told = read(answer)
        if notes.expect("An ordinary call is accepted.", told.connects, came=answer):
            _, socket = await system.traffic.proxy.open_media(line.twilio, "engine")
            waiting.append((customer, sid, told, socket))
    return waiting


async def _while_tickets_are_looked_up(system: System, notes: Notes) -> list[Placed]:
    waiting = await _tickets(system, notes)
    connecting = psycopg.AsyncConnection.connect(system.postgres.url)
    async with await connecting as connection:
        await connection.execute(_LOCK, [[sid for _, sid, *_ in waiting]])
        placed = [await _introduce(system, one) for one in waiting]

        async def wait_for_the_lock() -> bool:
            return int((await system.query(_BLOCKED))[0][0]) >= min(_CALLS, 8)

        notes.expect(
            "Tickets are being looked up.", await until(wait_for_the_lock, within=10), sent=_BLOCKED
        )
        _terminate(system)
        await until(lambda: _is_draining(system), within=10)
        await connection.rollback()
    return placed


async def _before_start(system: System, notes: Notes) -> list[Placed]:
    waiting = await _tickets(system, notes)
    _terminate(system)
    await until(lambda: _is_draining(system), within=10)
    return [await _introduce(system, one) for one in waiting]


async def _introduce(system: System, waiting: Waiting) -> Placed:
    customer, sid, told, socket = waiting
    await introduce(socket, customer.line.twilio, sid, told)
    return system.traffic.know(customer, sid, told, "engine", socket)


async def _while_webhooks_are_answered(system: System, notes: Notes) -> list[Placed]:
    """Stop the engine while the backend thinks; any engine may take the audio."""
    customer = system.traffic.customers[-1]
    usual, asked, may_answer = customer.line.desk.answer, [], asyncio.Event()

    async def think(_request: web.Request) -> web.Response:
        asked.append(time.monotonic())
        await may_answer.wait()
        return web.Response(body=orjson.dumps(usual), content_type="application/json")

    customer.line.desk.answer = think
    sids = [new_call_sid() for _ in range(_CALLS)]
    try:
        rings = [asyncio.create_task(_ring(system, customer, sid)) for sid in sids]
        await until(lambda: len(asked) == _CALLS, within=8)
        _terminate(system)
        await until(lambda: _is_draining(system), within=10)
        may_answer.set()
        answers = await asyncio.gather(*rings)
    finally:
        customer.line.desk.answer = usual
    connected = [
        await system.traffic.connect(customer, sid, answer)
        for sid, answer in zip(sids, answers, strict=True)
    ]
    for answer in answers:
        notes.expect("A webhook in progress is answered.", read(answer).connects, came=answer)
    return [each for each in connected if each is not None]


async def _ring(system: System, customer: Customer, sid: str) -> Answer:
    engine = system.traffic.proxy.engine("engine")
    line = customer.line
    return await ring(engine, to=line.number, account=line.twilio, call_sid=sid)
