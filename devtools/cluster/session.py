"""One run inside its network: start everything, run the scenarios, report."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from devtools.attack import namespace
from devtools.attack import session as attack_session
from devtools.attack.product import WORKER
from devtools.attack.voice import plan
from devtools.chaos.invariants import check_at_the_end
from devtools.chaos.postgres import Postgres, copied
from devtools.chaos.report import Notes, Report
from devtools.chaos.system import System
from devtools.chaos.traffic import Proxy, Traffic
from devtools.cluster import run, scenarios
from devtools.cluster.balancer import (
    Balancer,
    product_configuration,
    services_configuration,
    until_up,
)
from devtools.cluster.conversations import conversations
from devtools.cluster.participants import TalkingModel
from devtools.cluster.pooler import Pooler
from devtools.cluster.system import CallOutside, Cluster, Load, Row, percentile
from devtools.cluster.talks import TalkRow
from devtools.processes import ROOT, Failed

WEBS, ENGINES, WORKERS = ("web", "web-2"), ("engine", "engine-2", "engine-3"), (WORKER, "worker-2")
NAMES = (*WEBS, *WORKERS, *ENGINES)
_CALLS_PER_CUSTOMER = 25  # half of what an account may have
_MODELS, _CALLERS = 2, 2
_A_SECOND = 4.0  # new calls
_SETTLE_S = 2.0
_LONGEST_S = 1500.0

# What a killed worker was reporting to Stripe, another one reports when its lease ends: now.
_LEASES_END = """
    UPDATE billing_meterevent SET next_attempt_at = now() WHERE state = 'pending' RETURNING 1
"""
_CHARGED = """
    SELECT count(DISTINCT call_sid) FROM usage_usagerecord WHERE call_sid = ANY(%s)
"""


class ClusterReport(Report):
    """The report of chaos, with a table of the calls of each scenario."""

    rows: list[Row]
    talks: list[TalkRow]

    def table(self) -> str:
        lines = [Row.head(), *map(str, self.rows), ""] if self.rows else []
        lines += [TalkRow.head(), *map(str, self.talks), ""] if self.talks else []
        return "\n".join([*lines, super().table()])


def main() -> None:
    options = run.parse()
    report = ClusterReport(most_shown=attack_session.most_shown(options))
    report.rows, report.talks = [], []
    attack_session.run_and_report("cluster", options, report, _play(options, report))


async def _play(options: argparse.Namespace, report: ClusterReport) -> None:
    attack_session.end_in_time()
    async with AsyncExitStack() as stack:
        cluster, talking = await _set_up(stack, options, report)
        _say(f"ready after {time.monotonic() - _BEGAN:.0f} s")
        for name in options.names:
            if name == "conversations":
                play: Play = partial(_conversations, cluster, talking, report)
            else:
                play = partial(_under_load, cluster, report, name)
            await _one_scenario(report, name, play)
        notes = Notes("at the end", report)
        await cluster.system.query(_LEASES_END)
        await check_at_the_end(cluster.system, notes)


async def _set_up(
    stack: AsyncExitStack, options: argparse.Namespace, report: Report
) -> tuple[Cluster, TalkingModel]:
    folder = Path(os.environ["ATTACK_FOLDER"])
    namespace.bring_up_loopback()
    primary = Postgres(Path(os.environ["ATTACK_POSTGRES"]), os.environ["ATTACK_DATABASE"])
    await primary.start()
    stack.push_async_callback(primary.stop)
    copy = stack.enter_context(copied(primary.url, as_replica=True))
    replica = Postgres(copy, primary.database)
    await replica.start()
    stack.push_async_callback(replica.stop)
    # The product's start, which comes later, removes every .log of the run before.
    pooler = Pooler(primary, folder, attack_session.logs() / "pgbouncer.out")
    await pooler.start()
    stack.callback(pooler.stop)
    os.environ["DATABASE_URL"] = primary.url
    pooled = {"DATABASE_URL": pooler.url}
    ways = {name: {**pooled, "DATABASE_REPLICA_URL": replica.url} for name in WEBS}
    ways |= dict.fromkeys(ENGINES, pooled)
    ways |= {name: {**pooled, "DATABASE_DIRECT_URL": primary.url} for name in WORKERS}
    context = await attack_session.set_up(
        stack, options, report, ways, names=NAMES, has_proxy=False
    )
    models = [_model(stack) for _ in range(_MODELS)]
    talking = await TalkingModel.start()
    stack.push_async_callback(talking.stop)
    ports = {name: port for name, port in context.internet.ports.items() if name != "openai"}
    front = Balancer("front", folder, product_configuration(folder, NAMES), _log("haproxy"))
    services = Balancer(
        "services",
        folder,
        services_configuration(folder, ports, [port for _, port in models], talking.port),
        _log("haproxy-services"),
    )
    for balancer in (front, services):
        await balancer.start()
        stack.callback(balancer.stop)
    await until_up([*WEBS, *ENGINES], folder)
    traffic = Traffic(context, Proxy(context))
    customers = await traffic.join(max(2, -(-options.calls // _CALLS_PER_CUSTOMER)))
    for each in customers:
        each.line.desk.answer = plan(each.line.twilio, each.line.desk, model="gpt-realtime")
    load = Load(customers, options.lasts, _CALLERS)
    await load.start()
    stack.push_async_callback(load.stop)
    others = {
        "callers": load.pids,
        "models": [*(process.pid for process, _ in models), talking.pid],
        "services": [os.getpid(), *services.workers()],
    }
    system = System(context, primary, {}, traffic, context.random, options.short)
    return Cluster(system, load, front, pooler, replica, others, folder, NAMES, options), talking


def _model(stack: AsyncExitStack) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "devtools.cluster.model"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait, 10)
    stack.callback(process.kill)
    if process.stdout is None or not (port := process.stdout.readline()):
        raise Failed("The stand-in for OpenAI did not start.")
    return process, int(port)


def _log(name: str) -> Path:
    return attack_session.logs() / f"{name}.log"


Play = Callable[[Notes], Awaitable[None]]


async def _one_scenario(report: ClusterReport, name: str, play: Play) -> None:
    notes, began = Notes(name, report), time.monotonic()
    _say(f"{name}…")
    try:
        async with asyncio.timeout(_LONGEST_S):
            await play(notes)
    except Exception as error:
        where = "".join(traceback.format_exception(error)[-3:])
        sys.stderr.write(where)
        notes.expect("The scenario runs to its end.", False, came=where)
    report.seconds[name] = time.monotonic() - began
    _say(f"{name}: {report.seconds[name]:.0f} s")


async def _conversations(
    cluster: Cluster, talking: TalkingModel, report: ClusterReport, notes: Notes
) -> None:
    report.talks = await conversations(cluster, notes, talking)


async def _under_load(cluster: Cluster, report: ClusterReport, name: str, notes: Notes) -> None:
    """Play a scenario while calls come and go."""
    scenario: Any = getattr(scenarios, name)
    began, load = time.monotonic(), cluster.load
    load.calls.clear()
    load.round_trips.clear()
    load.most = 0
    await load.hold(cluster.options.calls, a_second=_A_SECOND)
    _say(f"{name}: {len(load.open_calls)} calls are in progress")
    try:
        killed = await scenario(cluster, notes) or {}
    finally:
        await load.end()
    await asyncio.sleep(_SETTLE_S)
    scenarios.expect_none_cut(cluster, notes, but=killed)
    await cluster.check(notes, list(load.calls.values()), killed)
    report.rows.append(await _row(cluster, name, began, killed))


async def _row(cluster: Cluster, name: str, began: float, killed: dict[str, float]) -> Row:
    load = cluster.load
    calls = list(load.calls.values())
    sids = [call.call_sid for call in calls if call.opened]
    ((charged,),) = await cluster.system.query(_CHARGED, sids)
    reported = {
        body["callSid"] for each in load.customers for body in each.line.desk.to("end")
    } & set(sids)
    webhooks = {call.webhook_s * 1000: 1 for call in calls}
    trips = {tenths / 10: count for tenths, count in load.round_trips.items()}
    return Row(
        name,
        time.monotonic() - began,
        placed=len(calls),
        most=load.most,
        cut=sum(_is_cut(call, killed) for call in calls),
        lost=len(killed),
        charged=int(charged),
        reported=len(reported),
        webhook=(percentile(webhooks, 0.5), percentile(webhooks, 0.99)),
        round_trip=(percentile(trips, 0.5), percentile(trips, 0.99)),
    )


def _is_cut(call: CallOutside, killed: dict[str, float]) -> bool:
    return call.call_sid not in killed and (call.is_cut or not call.opened)


def _say(line: str) -> None:
    sys.stderr.write(f"bin/cluster: {line}\n")


_BEGAN = time.monotonic()

if __name__ == "__main__":
    main()
