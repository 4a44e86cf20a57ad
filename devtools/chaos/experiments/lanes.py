"""Hanging backends must not delay other customers' billing, ends of calls or callbacks."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from functools import partial

from aiohttp import web

from devtools.attack.internet import HANDLER
from devtools.attack.people import Person
from devtools.attack.product import PORTS
from devtools.chaos.invariants import check, records_of
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.traffic import Customer, Placed
from devtools.chaos.waiting import seconds_until

KILLS = ("engine-2",)
_HANGING, _HANGING_IN_SHORT = 30, 8
_CALLS_OF_EACH, _CALLS_OF_EACH_IN_SHORT = 8, 4
_OTHERS, _OTHERS_IN_SHORT = 40, 15
_ACTIVE_WITHIN_S = 5.0
_ORPHAN_WITHIN_S = 15.0
_TOLD_WITHIN_S = 1.0
# A server that hung is retried at least every five minutes, if the database is available.
_ALL_DELIVERED_WITHIN_S = 480.0


async def run(system: System, notes: Notes) -> None:
    hanging = await system.traffic.join(_HANGING_IN_SHORT if system.is_short else _HANGING)
    payer, *_ = await system.traffic.sign_up(1)
    doors = asyncio.Event()
    for customer in hanging:
        customer.line.desk.report = _hang_until(doors)
    try:
        stuck = await _end_calls(system, hanging)
        await _expect_active(system, notes, payer)
        await _expect_told_soon(system, notes)
        await _expect_orphan_ended(system, notes)
    finally:
        doors.set()
    # That takes minutes, during which other experiments run.
    waiting = asyncio.create_task(_until_told(stuck))
    system.at_the_end.append(partial(_expect_delivered, system, notes, stuck, waiting))


def _hang_until(doors: asyncio.Event) -> HANDLER:
    async def report(_request: web.Request) -> web.Response:
        await doors.wait()
        return web.Response(status=204)

    return report


async def _end_calls(system: System, customers: list[Customer]) -> list[Placed]:
    """End calls of each customer, so that their callbacks hang."""
    places = asyncio.Semaphore(10)

    async def one(customer: Customer) -> Placed:
        async with places:
            placed = await system.traffic.place(customer)
            await placed.call.hang_up()
            return placed

    each = _CALLS_OF_EACH_IN_SHORT if system.is_short else _CALLS_OF_EACH
    return list(await asyncio.gather(*(one(customer) for customer in customers * each)))


async def _expect_active(system: System, notes: Notes, payer: Person) -> None:
    await system.traffic.pay(payer)
    took = await system.traffic.until_active(payer, within=60)
    notes.within("an account that has paid is active", took, _ACTIVE_WITHIN_S)


async def _expect_told_soon(system: System, notes: Notes) -> None:
    """Check that other customers receive onCallEnd at once."""
    took: list[float] = []
    count = _OTHERS_IN_SHORT if system.is_short else _OTHERS
    calls = await system.traffic.fill(count)
    for placed in calls:
        began = time.monotonic()
        await placed.call.hang_up()
        told = await seconds_until(lambda p=placed: _is_told(p), within=30, since=began)  # type: ignore[misc]
        took.append(told if told is not None else 30.0)
    p95 = statistics.quantiles(took, n=20)[-1]
    notes.measure(f"onCallEnd of {count} others, median", f"{statistics.median(took):.2f} s")
    notes.within("onCallEnd of others, 95th percentile", p95, _TOLD_WITHIN_S)
    await check(system, notes, calls)


def _is_told(placed: Placed) -> bool:
    ends = placed.customer.line.desk.to("end")
    return any(body["callSid"] == placed.call_sid for body in reversed(ends))


async def _expect_orphan_ended(system: System, notes: Notes) -> None:
    calls = await system.traffic.fill(2, engine="engine-2")
    since = time.monotonic()
    for each in calls:
        each.killed_at = since
    os.kill(system.context.product.processes["engine-2"].worker(), signal.SIGKILL)

    async def are_over() -> bool:
        records = await records_of(system, [each.call_sid for each in calls])
        return all(record.is_ended for record in records.values())

    took = await seconds_until(are_over, within=60, since=since)
    notes.within("an orphaned call has ended", took, _ORPHAN_WITHIN_S)
    await system.context.product.until_ready(PORTS["engine-2"])
    await check(system, notes, calls)


async def _until_told(calls: list[Placed]) -> float | None:
    return await seconds_until(lambda: all(map(_is_told, calls)), within=_ALL_DELIVERED_WITHIN_S)


async def _expect_delivered(
    system: System, notes: Notes, stuck: list[Placed], waiting: asyncio.Task[float | None]
) -> None:
    """Check that all hanging callbacks are delivered once when their server responds."""
    took = await waiting
    missing = sum(not _is_told(each) for each in stuck)
    notes.within(
        f"{len(stuck)} that hung are delivered, after their servers respond",
        took,
        _ALL_DELIVERED_WITHIN_S,
        sent=f"{missing} were not",
    )
    await check(system, notes, stuck, delivered=took is not None)
