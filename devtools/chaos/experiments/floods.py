"""UnadmittedSockets flood the two ports of an engine during calls."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from devtools.attack.internet import EARS
from devtools.attack.product import ENGINE, MEDIA
from devtools.attack.voice import FRAME_S, plan
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.waiting import longest_gap, until
from devtools.processes import ROOT

KILLS = ()
_CALLS = 5
_SECONDS, _SECONDS_IN_SHORT = 5.0, 3.0
_GOOD_S = 0.1
_MAY_GROW = 64 << 20
NOTHING = "nothing"
MEDIA_FLOODS = (
    "pings, never read",
    "pongs",
    "closes",
    "no JSON",
    "empty messages",
    "large messages",
    "fragments",
    "media before start",
    "media after start",
    "pings after start",
    "no protocol",
    "idle connections",
    "half an upgrade",
    "upgrades that say nothing",
    "huge headers",
)
HTTP_FLOODS = ("no protocol", "idle connections", "half an upgrade", "huge headers")
_IN_SHORT = ("pings, never read", "huge headers")


async def run(system: System, notes: Notes) -> None:
    (customer,) = await system.traffic.join(1)
    line = customer.line
    line.desk.answer = answer = plan(line.twilio, line.desk, model=EARS)
    system.context.canaries.add(answer["openaiApiKey"])
    heard = system.context.internet.heard
    # Each call has its own API key, by which the model identifies it.
    calls, keys = [], []
    for number in range(_CALLS):
        key = f"{answer['openaiApiKey']}{number}"
        line.desk.answer = {**answer, "openaiApiKey": key}
        calls.append(await system.context.live_call(line))
        await until(lambda key=key: heard.get(key), within=10)  # type: ignore[misc]
        keys.append(key)
    with _engine_alone(system):
        for name, port in _floods(system):
            await _beside(system, notes, name, port, keys)
    for call in calls:
        notes.expect("A call survives every flood.", call.is_open)
        await call.hang_up()


def _floods(system: System) -> list[tuple[str, int]]:
    if system.is_short:
        return [(NOTHING, 0), *((name, MEDIA) for name in _IN_SHORT), (_IN_SHORT[-1], ENGINE)]
    floods = [(name, MEDIA) for name in MEDIA_FLOODS] + [(name, ENGINE) for name in HTTP_FLOODS]
    return [(NOTHING, 0), *floods]


@dataclass
class _Clock:
    """How late this process itself is, so as not to blame the engine for it."""

    latest: float = 0.0

    async def run(self) -> None:
        while True:
            due = time.monotonic() + FRAME_S / 2
            await asyncio.sleep(FRAME_S / 2)
            self.latest = max(self.latest, time.monotonic() - due)


@contextmanager
def _engine_alone(system: System) -> Iterator[None]:
    """Reserve the last core for the engine, and the others for callers, model and floods."""
    cores = sorted(os.sched_getaffinity(0))
    engine = system.context.product.processes["engine"].worker()
    os.sched_setaffinity(engine, {cores[-1]})
    os.sched_setaffinity(0, set(cores[:-1] or cores))
    try:
        yield
    finally:
        for pid in (0, engine):
            os.sched_setaffinity(pid, cores)


async def _beside(system: System, notes: Notes, name: str, port: int, keys: Sequence[str]) -> None:
    engine = system.context.product.processes["engine"]
    seconds = _SECONDS_IN_SHORT if system.is_short else _SECONDS
    before, most, clock = engine.memory(), 0, _Clock()
    async with _flooding(name, port):
        await asyncio.sleep(1.0)  # until it has started
        began, watching = time.monotonic(), asyncio.create_task(clock.run())
        while time.monotonic() < began + seconds:
            most = max(most, engine.memory())
            await asyncio.sleep(0.1)
        ended = time.monotonic()
        watching.cancel()
    gap = max(longest_gap(system.context.internet.heard[key], began, ended) for key in keys)
    where = "nothing" if not port else f"{name} at {'media' if port == MEDIA else 'HTTP'}"
    grown = (most - before) / (1 << 20)
    notes.measure(
        f"beside {where}",
        f"longest gap {gap * 1000:.0f} ms, ourselves late by {clock.latest * 1000:.0f} ms, "
        f"{grown:.0f} MB more",
    )
    notes.expect(
        "Other calls have no gap of 100 ms.", gap - clock.latest < _GOOD_S, sent=where, came=gap
    )
    notes.expect(
        "Memory is bounded.", most - before < _MAY_GROW, sent=where, came=f"{grown:.0f} MB"
    )


@asynccontextmanager
async def _flooding(name: str, port: int) -> AsyncIterator[None]:
    if name == NOTHING:
        yield
        return
    command = ("-m", "devtools.bench.floods", f"--of={name}", f"--port={port}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdin=PIPE, stderr=DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()
