"""Processes are killed at random moments, during calls."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from devtools.attack.product import PORTS, WORKER
from devtools.chaos.invariants import check, ends_of, expect_alive, records_of
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.traffic import ENGINES, Customer, Placed
from devtools.chaos.waiting import seconds_until, until

KILLS = (*ENGINES, WORKER)
_CALLS, _CALLS_IN_SHORT = 80, 16
_ENDED_WITHIN_S = 15.0
_DELIVERED_WITHIN_S = 30.0
_GAP_S = 6.0
# The engine's worker process, a whole machine with all processes, the queue's worker.
_VICTIMS = ("engine's worker", "engine", WORKER)


async def run(system: System, notes: Notes) -> None:
    rounds = _VICTIMS[::2] if system.is_short else (*_VICTIMS, *_VICTIMS[:2])
    for number, victim in enumerate(rounds):
        await _kill(system, notes, victim, list(ENGINES)[number % 2])


async def _kill(system: System, notes: Notes, victim: str, engine: str) -> None:
    calls = await system.traffic.fill(_CALLS_IN_SHORT if system.is_short else _CALLS)
    mine = [] if victim == WORKER else [each for each in calls if each.engine == engine]
    others = [each for each in calls if each not in mine]
    began = time.monotonic()
    await asyncio.sleep(system.random.uniform(2.0, 6.0))
    # Some end at the same moment.
    leaving = others[::4]
    with _thinking(system.traffic.customers if victim == WORKER else ()) as asked:
        await system.traffic.hang_up(leaving)
        if victim == WORKER:
            await until(lambda: asked, within=10)
        killed_at = time.monotonic()
        for each in mine:
            each.killed_at = killed_at
            each.is_told = system.random.random() < 0.5
        _shoot(system, victim, engine)
    name = WORKER if victim == WORKER else engine
    if victim != "engine's worker":
        system.context.product.begin(name)
    await asyncio.gather(*(each.call.socket.close() for each in mine), return_exceptions=True)
    await system.traffic.tell(each for each in mine if each.is_told)
    await _expect_ends(system, notes, mine, killed_at)
    await _until_back(system, notes, name, killed_at)
    if victim == WORKER:
        await _expect_delivered(notes, leaving, killed_at, len(asked))
    staying = [each for each in others if each not in leaving]
    expect_alive(notes, staying, began, gap=_GAP_S)
    await system.traffic.hang_up(staying)
    await check(system, notes, calls)


@contextmanager
def _thinking(customers: Iterable[Customer]) -> Iterator[list[str]]:
    """Delay the responses of backends; yield the paths of the callbacks they receive."""
    asked: list[str] = []
    is_over = asyncio.Event()

    async def think(request: web.Request) -> web.Response:
        asked.append(request.path)
        await is_over.wait()
        return web.Response(status=503)

    for each in customers:
        each.line.desk.report = think
    try:
        yield asked
    finally:
        for each in customers:
            each.line.desk.report = None
        is_over.set()


async def _expect_delivered(
    notes: Notes, calls: Sequence[Placed], since: float, under_way: int
) -> None:
    """Check that a killed worker's deliveries are sent again soon."""
    notes.measure("callbacks in progress when their worker was killed", under_way)
    took = await seconds_until(
        lambda: all(map(ends_of, calls)), within=2 * _DELIVERED_WITHIN_S, since=since
    )
    notes.within("a killed worker's callbacks are delivered", took, _DELIVERED_WITHIN_S)


def _shoot(system: System, victim: str, engine: str) -> None:
    process = system.context.product.processes[WORKER if victim == WORKER else engine]
    if victim == "engine's worker":
        os.kill(process.worker(), signal.SIGKILL)
    else:
        os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait(10)


async def _expect_ends(system: System, notes: Notes, calls: Sequence[Placed], since: float) -> None:
    """Check that orphaned calls end soon, with or without Twilio's report."""
    for is_told in (True, False):
        sids = [each.call_sid for each in calls if each.is_told is is_told]
        if not sids:
            continue

        async def are_over(sids: list[str] = sids) -> bool:
            return all(record.is_ended for record in (await records_of(system, sids)).values())

        took = await seconds_until(are_over, within=3 * _ENDED_WITHIN_S, since=since)
        how = "that Twilio reports" if is_told else "that nobody reports"
        notes.within(f"orphaned calls {how} have ended", took, _ENDED_WITHIN_S)


async def _until_back(system: System, notes: Notes, name: str, since: float) -> None:
    if name in PORTS:
        await system.context.product.until_ready(PORTS[name])
        notes.measure(f"{name} is back after", f"{time.monotonic() - since:.1f} s")
