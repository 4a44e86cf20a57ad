"""Gunicorn's master is killed, and its worker survives, with calls and with the ports."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from devtools.chaos.invariants import check, expect_alive
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.traffic import Customer
from devtools.chaos.waiting import seconds_until
from devtools.processes import Failed

KILLS = ("engine",)
_CALLS = 6
_GAP_S = 6.0
_EVERY_S = 0.7
# As systemd does it: Restart=always, RestartSec=1.
_RESTART_AFTER_S = 1.0


async def run(system: System, notes: Notes) -> None:
    """Check that the other engine, or the restarted one, accepts new calls."""
    process = system.context.product.processes["engine"]
    worker, group = process.worker(), process.popen.pid
    calls = await system.traffic.fill(_CALLS, engine="engine")
    began = time.monotonic()
    os.kill(process.popen.pid, signal.SIGKILL)
    process.popen.wait(10)
    restarting = asyncio.create_task(_restart_as_systemd_does(system))
    try:
        await _keep_calling(system, notes, seconds=12.0 if system.is_short else 40.0)
        expect_alive(notes, calls, began, gap=_GAP_S)
        await system.traffic.hang_up(calls)
        gone = await seconds_until(lambda: not _runs(worker), within=30)
        notes.within("the orphaned worker has exited, after its last call", gone, 5)
        back = await seconds_until(lambda: _is_up(system), within=30)
        notes.within("the restarted engine is ready, after the orphan has exited", back, 15)
    finally:
        restarting.cancel()
        with suppress(ProcessLookupError):  # the orphan was the last process of its group
            os.killpg(group, signal.SIGKILL)
    await check(system, notes, calls)


async def _keep_calling(system: System, notes: Notes, *, seconds: float) -> None:
    """Place short calls through the proxy at regular intervals."""
    known, deadline = len(system.traffic.placed), time.monotonic() + seconds
    calling: list[asyncio.Task[bool]] = []
    while time.monotonic() < deadline:
        customer = system.traffic.customers[len(calling) % len(system.traffic.customers)]
        calling.append(asyncio.create_task(_one_call(system, notes, customer)))
        await asyncio.sleep(_EVERY_S)
    taken = sum(await asyncio.gather(*calling))
    notes.measure("calls connected during that time", f"{taken} of {len(calling)}")
    await check(system, notes, system.traffic.placed[known:])


async def _one_call(system: System, notes: Notes, customer: Customer) -> bool:
    why: object = ""
    try:
        placed = await system.traffic.place(customer)
        talks = await seconds_until(lambda: placed.call.heard, within=10)
        why = f"{placed.engine}, heard after {talks} s, open: {placed.call.is_open}"
        is_taken = talks is not None
        await placed.call.hang_up()
    except (Failed, OSError) as error:
        is_taken, why = False, error
    return notes.expect("A new call is connected, and talks.", is_taken, sent="a call", came=why)


async def _restart_as_systemd_does(system: System) -> None:
    while True:
        await asyncio.sleep(_RESTART_AFTER_S)
        if system.context.product.processes["engine"].popen.poll() is not None:
            system.context.product.begin("engine")


async def _is_up(system: System) -> bool:
    """Return True if the current engine has a worker that responds."""
    process = system.context.product.processes["engine"]
    if process.popen.poll() is not None or not process.worker():
        return False
    answer = await system.traffic.proxy.engine("engine").ask("GET", "/readyz", patience=2)
    return answer.status == 200


def _runs(pid: int) -> bool:
    """Return True if a process is running and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
