"""One run inside its network: start everything, run every experiment, report."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from devtools.attack import namespace
from devtools.attack import session as attack_session
from devtools.attack.product import PORTS
from devtools.chaos import run
from devtools.chaos.invariants import Pids, check_at_the_end
from devtools.chaos.postgres import Postgres
from devtools.chaos.relay import Relay
from devtools.chaos.report import Notes, Report
from devtools.chaos.system import System
from devtools.chaos.traffic import ENGINES, Proxy, Traffic

_CUSTOMERS, _CUSTOMERS_IN_SHORT = 12, 5
_RELAY_PORTS = {"engine": 5510, "engine-2": 5520}
_LONGEST_S = 420.0


def main() -> None:
    options = run.parse()
    report = Report(most_shown=attack_session.most_shown(options))
    attack_session.run_and_report("chaos", options, report, _play(options, report))


async def _play(options: argparse.Namespace, report: Report) -> None:
    attack_session.end_in_time()
    async with AsyncExitStack() as stack:
        system = await _set_up(stack, options, report)
        count = _CUSTOMERS_IN_SHORT if options.short else _CUSTOMERS
        joined = await system.traffic.join(count + len(ENGINES))
        system.traffic.customers, system.traffic.probers = joined[:count], joined[count:]
        _say(f"ready after {time.monotonic() - _BEGAN:.0f} s")
        for name in options.names:
            if time.monotonic() - _BEGAN > options.minutes * 60:
                report.skipped[name] = f"{options.minutes:g} minutes are over"
                continue
            await _one_experiment(system, report, name)
        notes = Notes("at the end", report)
        began = time.monotonic()
        for look in system.at_the_end:
            await look()
        await check_at_the_end(system, notes)
        report.seconds["at the end"] = time.monotonic() - began


async def _set_up(stack: AsyncExitStack, options: argparse.Namespace, report: Report) -> System:
    """Start PostgreSQL, the relays and the product; the stack stops them."""
    folder = Path(os.environ["ATTACK_POSTGRES"])
    postgres = Postgres(folder, os.environ["ATTACK_DATABASE"])
    await postgres.start()
    stack.push_async_callback(postgres.stop)
    os.environ["DATABASE_URL"] = postgres.url
    relays = {name: Relay(_RELAY_PORTS[name], postgres.socket) for name in ENGINES}
    ways = {name: {"DATABASE_URL": relay.url(postgres.database)} for name, relay in relays.items()}
    namespace.bring_up_loopback()
    for relay in relays.values():
        relay.begin()
        stack.callback(relay.cut)
    context = await attack_session.set_up(stack, options, report, ways)
    traffic = Traffic(context, Proxy(context))
    return System(context, postgres, relays, traffic, context.random, options.short)


async def _one_experiment(system: System, report: Report, name: str) -> None:
    experiment: Any = experiment_of(name)
    notes, began = Notes(name, report), time.monotonic()
    _say(f"{name}…")
    pids = Pids.of(system)
    try:
        async with asyncio.timeout(_LONGEST_S):
            await experiment.run(system, notes)
        pids.expect_the_same(system, notes, but=experiment.KILLS)
    except Exception as error:
        where = "".join(traceback.format_exception(error)[-3:])
        sys.stderr.write(where)
        notes.expect("The experiment runs to its end.", False, came=where)
    finally:
        await _put_right(system)
    report.seconds[name] = time.monotonic() - began
    _say(f"{name}: {report.seconds[name]:.0f} s")


async def _put_right(system: System) -> None:
    """Repair everything and end all calls before the next experiment."""
    await system.traffic.hang_up(each for each in system.traffic.placed if each.call.is_open)
    for name, process in system.context.product.processes.items():
        if process.popen.poll() is not None:
            system.context.product.begin(name)
    for port in PORTS.values():
        await system.context.product.until_ready(port)


def experiment_of(name: str) -> Any:
    return attack_session.module_named(f"devtools.chaos.experiments.{name.replace('-', '_')}")


def _say(line: str) -> None:
    sys.stderr.write(f"bin/chaos: {line}\n")


_BEGAN = time.monotonic()

if __name__ == "__main__":
    main()
