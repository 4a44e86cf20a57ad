"""One engine alone loses its database: the connections hang, or are refused."""

from __future__ import annotations

import asyncio
import time

from devtools.chaos.invariants import check, expect_alive
from devtools.chaos.report import Notes
from devtools.chaos.system import System

KILLS = ()
_CALLS = 12
_GAP_S = 6.0
# A reconnected engine checks its calls every second.
_BACK_S = 5.0


async def run(system: System, notes: Notes) -> None:
    if system.is_short:
        await _cut_off(system, notes, seconds=14.0, hangs=True)
        return
    await _cut_off(system, notes, seconds=30.0, hangs=False)
    await _cut_off(system, notes, seconds=125.0, hangs=True)


async def _cut_off(system: System, notes: Notes, *, seconds: float, hangs: bool) -> None:
    """Cut an engine off for ``seconds``; a third of its calls end meanwhile."""
    relay = system.relays["engine"]
    calls = await system.traffic.fill(_CALLS, engine="engine")
    others = await system.traffic.fill(_CALLS // 2, engine="engine-2")
    began = time.monotonic()
    (relay.hang if hangs else relay.cut)()
    notes.measure("cut off", f"{seconds:.0f} s, {'silent' if hangs else 'refused'}")
    try:
        await asyncio.sleep(seconds / 2)
        await system.traffic.hang_up(calls[::3])
        await asyncio.sleep(seconds / 2)
    finally:
        if hangs:
            relay.go_on()
        else:
            relay.begin()
            await relay.until_ready()
    await asyncio.sleep(_BACK_S)
    rest = [each for each in calls if each not in calls[::3]]
    expect_alive(notes, [*rest, *others], began, gap=_GAP_S)
    await system.traffic.hang_up([*rest, *others])
    records = await check(system, notes, calls, may_be_resumed=True)
    lost = sum(record.was_lost for record in records.values())
    notes.measure(f"of {len(calls)} calls taken for lost meanwhile", lost)
    await check(system, notes, others)
