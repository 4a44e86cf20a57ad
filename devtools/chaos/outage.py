"""An outage of the database for every process, as callers and probes see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from devtools.chaos import probes
from devtools.chaos.invariants import check, expect_alive
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.waiting import until

_CALLS, _CALLS_IN_SHORT = 15, 8
_RIGHT_AFTER_S = 5.0
_WAIT_FOR_RIGHT_S = 75.0
# A turn takes about two seconds; a busy machine may need one more.
_GAP_S = 6.0

# How many seconds a response may take while the database refuses connections or hangs.
_MOST = {"voice": 3.0, "API": 3.0, "readyz": 2.0}

Do = Callable[[], Awaitable[None]]


async def suffer(
    system: System,
    notes: Notes,
    break_it: Do,
    mend: Do,
    *,
    seconds: float,
    keeps_tickets: bool = True,
) -> None:
    """Break the database for this long: a third of the callers hang up, the others continue.

    :param keeps_tickets: calls that wait for their audio are not lost.
    """
    notes.measure("an outage", f"{seconds:.0f} s")
    calls = await system.traffic.fill(_CALLS_IN_SHORT if system.is_short else _CALLS)
    known = len(system.traffic.placed)
    async with probes.probing(system, system.traffic.probers) as seen:
        await until(lambda: len(seen.seen) > 12, within=20)
        began = time.monotonic()
        await break_it()
        down = time.monotonic()
        await asyncio.sleep(seconds / 2)
        await system.traffic.hang_up(calls[::3])
        await asyncio.sleep(seconds / 2)
        up = time.monotonic()
        await mend()
        back = time.monotonic()
        await until(lambda: _is_right(seen, back), within=_WAIT_FOR_RIGHT_S)
        await asyncio.sleep(_RIGHT_AFTER_S)
    settled = _RIGHT_AFTER_S + (back - up)
    probes.expect_apologies(notes, seen, down, up, most=_MOST, settled=settled)
    rest = [each for each in calls if each not in calls[::3]]
    expect_alive(notes, rest, began, gap=_GAP_S)
    await system.traffic.hang_up(rest)
    rung = system.traffic.placed[known:]
    kept = [each for each in rung if each.is_let_in]
    notes.measure("rings that waited for their audio and were lost", len(rung) - len(kept))
    await check(system, notes, [*calls, *(rung if keeps_tickets else kept)])


def _is_right(seen: probes.Probes, back: float) -> bool:
    return all(
        any(each.is_usual and each.sent > back for each in seen.of(kind))
        for kind in {each.name for each in seen.seen}
    )
