"""One upgrade inside its network, as docs/production.md describes it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from core.version import VERSION
from devtools.attack import session as attack_session
from devtools.attack.product import SECOND_WEB, WORKER, Product
from devtools.attack.voice import Twiml, new_call_sid, read, ring
from devtools.attack.web import Answer, Browser, Client
from devtools.chaos.invariants import check, check_at_the_end, expect_alive
from devtools.chaos.postgres import Postgres
from devtools.chaos.report import Notes, Report
from devtools.chaos.system import System
from devtools.chaos.traffic import Customer, Placed, Proxy, Traffic, introduce
from devtools.chaos.waiting import seconds_until, until
from devtools.processes import ROOT, Failed
from devtools.upgrade import run

_OLD = ("web", "engine", WORKER)
_NEW = ("web-2", "engine-2", f"{WORKER}-2")
_CUSTOMERS = 6
_CALLS, _LATER = 20, 6
_TURNS = 3
# Longer than it takes to notice that an engine is gone: none of the old one's calls is given up.
_BESIDE_S = 12.0
_ASK_EVERY_S = 0.1
_GAP_S = 6.0
_STOPS_WITHIN_S = 40.0
_PAGES = ("/", "/login", "/docs/callbacks", "/dashboard", "/dashboard/calls", "/dashboard/billing")

_MIGRATIONS = "SELECT count(*) FROM django_migrations"


def main() -> None:
    options = run.parse()
    report = Report(most_shown=attack_session.most_shown(options))
    attack_session.run_and_report("upgrade", options, report, _play(options, report))


async def _play(options: argparse.Namespace, report: Report) -> None:
    attack_session.end_in_time()
    began = time.monotonic()
    notes = Notes("upgrade", report)
    async with AsyncExitStack() as stack:
        context = await attack_session.set_up(
            stack,
            options,
            report,
            names=_OLD,
            root=Path(os.environ["ATTACK_PREVIOUS"]),
            python=os.environ["ATTACK_PREVIOUS_PYTHON"],
        )
        postgres = Postgres(Path(), "", url=context.product.environment["DATABASE_URL"])
        traffic = Traffic(context, Proxy(context))
        system = System(context, postgres, {}, traffic, context.random, is_short=False)
        traffic.customers = await traffic.join(_CUSTOMERS)
        await _upgrade(system, notes)
        await check_at_the_end(system, notes)
    report.seconds["upgrade"] = time.monotonic() - began


async def _upgrade(system: System, notes: Notes) -> None:
    calls = await system.traffic.fill(_CALLS, engine="engine")
    began = time.monotonic()
    await _migrate(system, notes, calls)
    started = time.monotonic()
    calls += await _take_over(system, notes)
    await asyncio.sleep(max(0.0, started + _BESIDE_S - time.monotonic()))
    expect_alive(notes, calls[:_CALLS], began, gap=_GAP_S)
    await _drain(system, notes, calls)
    calls.append(await _go_back(system))
    await check(system, notes, calls)


async def _migrate(system: System, notes: Notes, calls: list[Placed]) -> None:
    """Migrate with the new release while the old one is asked for everything."""
    product = system.context.product
    customer = system.traffic.customers[0]
    before = (await system.query(_MIGRATIONS))[0][0]
    browser = await system.context.browser(customer.person)
    product.root, product.python = ROOT, sys.executable
    async with _asking(system, browser, customer) as answers:
        began = time.monotonic()
        migrating = asyncio.create_task(
            product.run("manage.py", "migrate", "--no-input", "--verbosity=0")
        )
        calls += [await system.traffic.place(customer, engine="engine")]
        migrated = await migrating
        notes.measure("migrating took", f"{time.monotonic() - began:.1f} s")
    after = (await system.query(_MIGRATIONS))[0][0]
    notes.measure("migrations", after - before)
    if migrated.returncode:
        raise Failed(f"The new release does not migrate: {migrated.stderr[-600:]}")
    slowest = max((answer.seconds for _, answer in answers), default=0.0)
    notes.measure("requests of the old release meanwhile", len(answers))
    notes.measure("the slowest of them", f"{slowest:.2f} s")
    for path, answer in answers:
        notes.expect(
            "The old release answers while the new one migrates.",
            answer.status == 200,
            sent=path,
            came=str(answer)[:300],
        )


@asynccontextmanager
async def _asking(
    system: System, browser: Browser, customer: Customer
) -> AsyncIterator[list[tuple[str, Answer]]]:
    """Request pages and the API all the time; yield the responses, with their paths."""
    answers: list[tuple[str, Answer]] = []
    is_over = asyncio.Event()

    async def pages() -> None:
        while not is_over.is_set():
            for path in _PAGES:
                answers.append((path, await browser.get(path)))
                await asyncio.sleep(_ASK_EVERY_S)

    async def api() -> None:
        while not is_over.is_set():
            for path in ("/api/account", "/api/calls", "/api/usage", "/readyz"):
                answer = await system.context.api(customer.person, "GET", path)
                answers.append((path, answer))
                await asyncio.sleep(_ASK_EVERY_S)

    tasks = [asyncio.create_task(work()) for work in (pages, api)]
    try:
        yield answers
    finally:
        is_over.set()
        await asyncio.gather(*tasks)


async def _take_over(system: System, notes: Notes) -> list[Placed]:
    """Start the new release and point the proxy at it; return the calls of this time.

    Webhooks of some of them have been answered by the old release; their audio reaches the new one.
    """
    product, traffic = system.context.product, system.traffic
    waiting = [await _ring(system, customer) for customer in traffic.customers[2:5]]
    await product.start(_NEW)
    system.context.web = Client(system.context.session, SECOND_WEB, system.context.web.host)
    ready = await system.context.web.ask("GET", "/readyz")
    notes.expect("The new release says which it is.", ready.json["version"] == VERSION, came=ready)
    crossing = []
    for customer, sid, told in waiting:
        name, socket = await traffic.proxy.open_media(customer.line.twilio, "engine-2")
        await introduce(socket, customer.line.twilio, sid, told)
        crossing.append(traffic.know(customer, sid, told, name, socket))
    new = [await traffic.place(each, engine="engine-2") for each in traffic.customers]
    placed = [*crossing, *new, await traffic.place_outbound(traffic.customers[0])]
    await traffic.until_talking(placed)
    notes.measure("calls begun by the old release and carried by the new one", len(crossing))
    return placed


async def _ring(system: System, customer: Customer) -> tuple[Customer, str, Twiml]:
    sid, line = new_call_sid(), customer.line
    engine = system.traffic.proxy.engine("engine")
    answer = await ring(engine, to=line.number, account=line.twilio, call_sid=sid)
    return customer, sid, read(answer)


async def _drain(system: System, notes: Notes, calls: list[Placed]) -> None:
    """Stop the old release; its calls end one after the other, and then it exits."""
    product, traffic = system.context.product, system.traffic
    for name in _OLD:
        product.processes[name].popen.send_signal(signal.SIGTERM)
    for name in ("web", WORKER):
        await _expect_exit(product, notes, name)
    turns = {each.call_sid: len(each.turns) for each in calls}
    talks = await until(
        lambda: all(len(each.turns) >= turns[each.call_sid] + _TURNS for each in calls), within=30
    )
    notes.expect(
        "Every call goes on while the old release drains.",
        talks,
        came=f"{sum(each.call.is_open for each in calls)} of {len(calls)} are open",
    )
    fresh = [await traffic.place(each) for each in traffic.customers[:_LATER]]
    await traffic.until_talking(fresh)
    notes.expect(
        "New calls reach the new release.",
        {each.engine for each in fresh} == {"engine-2"},
        came=[each.engine for each in fresh],
    )
    calls += fresh
    await traffic.hang_up(calls)
    await _expect_exit(product, notes, "engine")


async def _go_back(system: System) -> Placed:
    """Start the old release on the new tables; return a call that it has carried."""
    product, traffic = system.context.product, system.traffic
    product.root = Path(os.environ["ATTACK_PREVIOUS"])
    product.python = os.environ["ATTACK_PREVIOUS_PYTHON"]
    await product.start(("web", "engine"))
    placed = await traffic.place(traffic.customers[0], engine="engine")
    await traffic.until_talking([placed])
    await traffic.hang_up([placed])
    product.root, product.python = ROOT, sys.executable
    return placed


async def _expect_exit(product: Product, notes: Notes, name: str) -> None:
    process = product.processes.pop(name).popen
    took = await seconds_until(lambda: process.poll() is not None, within=_STOPS_WITHIN_S)
    notes.within(f"the old {name} has stopped", took, _STOPS_WITHIN_S)
    notes.expect(
        "An old process exits with 0.", process.poll() == 0, sent=name, came=process.poll()
    )


if __name__ == "__main__":
    main()
