"""One run of ``bin/bench calls``, inside its network: start everything, place calls, report."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from devtools.attack import namespace
from devtools.attack import session as attack_session
from devtools.attack.people import Line
from devtools.attack.product import WORKER
from devtools.attack.report import Report
from devtools.attack.voice import ENGINE_URL, plan
from devtools.bench import calls
from devtools.bench.statements import CountingRelay, Counts, counting
from devtools.chaos.postgres import Postgres
from devtools.chaos.system import System
from devtools.chaos.traffic import Proxy, Traffic
from devtools.chaos.waiting import until
from devtools.processes import Failed
from sandbox.phone.exchange import Phone
from sandbox.phone.identity import CarrierAccount
from sandbox.phone.person import PATIENCE_S, Step

PROCESSES = ("web", "engine", WORKER)
_RELAY_PORTS = {name: 5510 + number for number, name in enumerate(PROCESSES)}
_CUSTOMERS = 5
_SETTLE_S = 3.0  # until what a process does at its start is done
_DELIVERED_WITHIN_S = 60.0
_BARE = 1000  # transactions of the reference
_SHOWN = 300  # characters of a statement

_MODEL = [
    {"say": "We are open until nine today."},
    {"call": "look_up", "arguments": {"order": "A-1001"}},
    {"say": "Your order is on its way."},
    {"say": "You are welcome. Goodbye."},
]
_CALLER = [
    Step("listen", PATIENCE_S),
    *(
        step
        for text in ("When do you open?", "Where is my order?", "Thank you, that was all.")
        for step in (Step("say", text), Step("listen", PATIENCE_S))
    ),
    Step("hang_up"),
]

# Bytes include indexes and the parts that are stored elsewhere.
_TABLES = """
    SELECT relname, pg_total_relation_size(relid)::bigint FROM pg_stat_user_tables
    WHERE schemaname = 'public'
"""
_DATABASE = """
    SELECT pg_current_wal_lsn() - '0/0'::pg_lsn,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """What had been used at one moment, since the start of each process."""

    at: float
    cpu: dict[str, float]
    counts: dict[str, Counts]
    wal: int
    xids: int

    def since(self, before: Moment) -> Used:
        return Used(
            self.at - before.at,
            {name: self.cpu[name] - before.cpu[name] for name in self.cpu},
            {name: self.counts[name] - before.counts[name] for name in self.counts},
            self.wal - before.wal,
            self.xids - before.xids,
        )


@dataclass(frozen=True, slots=True)
class Used:
    """What a period used: CPU seconds and queries by process, bytes of WAL.

    ``xids`` is the number of transactions and savepoints that wrote something.
    """

    seconds: float
    cpu: Mapping[str, float]
    counts: Mapping[str, Counts]
    wal: int
    xids: int


@dataclass(frozen=True, slots=True)
class Table:
    rows: int
    size: int


@dataclass
class Bench:
    system: System
    relay: CountingRelay
    lines: list[Line]

    async def moment(self) -> Moment:
        product = self.system.context.product
        ((wal, xids),) = await self.system.query(_DATABASE)
        return Moment(
            time.monotonic(),
            {name: product.processes[name].cpu_seconds() for name in PROCESSES}
            | {"postgres": self.system.postgres.cpu_seconds()},
            self.relay.counts(),
            int(wal),
            int(xids),
        )

    async def tables(self) -> dict[str, Table]:
        found = {}
        for name, size in await self.system.query(_TABLES):
            ((rows,),) = await self.system.query(f'SELECT count(*) FROM "{name}"')  # noqa: S608 # nosec B608 # a name of ours
            found[name] = Table(int(rows), int(size))
        return found


def main() -> None:
    options, report = calls.parse(), Report()
    attack_session.run_and_report("bench", options, report, _play(options, report))


async def _play(options: argparse.Namespace, report: Report) -> None:
    attack_session.end_in_time()
    async with AsyncExitStack() as stack:
        bench = await _set_up(stack, options, report)
        await _place(bench, options.at_once, options.at_once)  # so that all is warm
        await asyncio.sleep(_SETTLE_S)
        start = await bench.moment()
        await asyncio.sleep(options.idle)
        idle = (await bench.moment()).since(start)
        tables, start = await bench.tables(), await bench.moment()
        await _place(bench, options.calls, options.at_once)
        end = await bench.moment()
        grown = await bench.tables()
        bare = await _bare(bench.system.postgres.url)
        added = {
            name: Table(now.rows - tables[name].rows, now.size - tables[name].size)
            for name, now in grown.items()
        }
        lines = told(options.calls, end.since(start), idle, added, bare)
        if options.statements:
            lines = [*lines, *_statements(options.calls, end.since(start), idle)]
        print("\n".join(lines), flush=True)


async def _set_up(stack: AsyncExitStack, options: argparse.Namespace, report: Report) -> Bench:
    postgres = Postgres(Path(os.environ["ATTACK_POSTGRES"]), os.environ["ATTACK_DATABASE"])
    await postgres.start()
    stack.push_async_callback(postgres.stop)
    os.environ["DATABASE_URL"] = postgres.url
    namespace.bring_up_loopback()
    relay = stack.enter_context(counting(_RELAY_PORTS, postgres.socket, postgres.database))
    ways = {name: {"DATABASE_URL": url} for name, url in relay.urls.items()}
    context = await attack_session.set_up(stack, options, report, ways, names=PROCESSES)
    traffic = Traffic(context, Proxy(context))
    joined = await traffic.join(_CUSTOMERS)
    system = System(context, postgres, {}, traffic, context.random, options.short)
    prompt = f"Be brief.\n\n```sandbox\n{json.dumps(_MODEL)}\n```\n"
    for each in joined:
        line = each.line
        line.desk.answer = plan(
            line.twilio,
            line.desk,
            model="gpt-realtime-1.5",
            greeting="Hello, this is the shop.",
            systemPrompt=prompt,
        )
        line.desk.tool = {"result": "It was sent yesterday."}
    return Bench(system, relay, [each.line for each in joined])


async def _place(bench: Bench, count: int, at_once: int) -> None:
    """Place calls, and return when every callback about them is delivered.

    Raises :class:`Failed` if one does not go as its script says.
    """
    before = _received(bench.lines)
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            line = bench.lines[number % len(bench.lines)]
            account = CarrierAccount(line.twilio.sid, line.twilio.token)
            call = phone.ring(to=line.number, script=_CALLER, account=account)
            await call.ended(within=90)
            if not call.went_through:
                why = [event for event in call.journal.events if event.kind == "error"]
                raise Failed(f"A call did not go through: {why or call.status}")

    own = bench.lines[0].twilio
    phone = Phone(voice_url=f"{ENGINE_URL}/voice", account_sid=own.sid, auth_token=own.token)
    async with phone:
        await asyncio.gather(*(some() for _ in range(at_once)))
    wanted = {name: before[name] + count for name in before}
    if not await until(lambda: _received(bench.lines) == wanted, within=_DELIVERED_WITHIN_S):
        raise Failed(f"Backends received {_received(bench.lines)} requests instead of {wanted}.")
    pending = "SELECT count(*) FROM telephony_callbackdelivery WHERE state = 'pending'"

    async def is_noted() -> bool:
        return (await bench.system.query(pending))[0][0] == 0

    if not await until(is_noted, within=_DELIVERED_WITHIN_S):
        raise Failed("Callbacks were received, and are not recorded as delivered.")


def _received(lines: list[Line]) -> dict[str, int]:
    return {
        name: sum(len(line.desk.to(name)) for line in lines) for name in ("start", "tool", "end")
    }


async def _bare(url: str) -> Used:
    """Insert rows as large as a usual event, each in a transaction of its own."""
    connecting = psycopg.AsyncConnection.connect(url)
    async with await connecting as connection:
        await connection.execute("CREATE TABLE bench_bare (id bigserial PRIMARY KEY, detail text)")
        await connection.commit()
        ((wal, xids),) = await (await connection.execute(_DATABASE)).fetchall()
        await connection.commit()
        began, cpu = time.monotonic(), time.process_time()
        for _ in range(_BARE):
            await connection.execute(
                "INSERT INTO bench_bare (detail) VALUES (%s)", ["x" * 100], prepare=False
            )
            await connection.commit()
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        ((wal_now, xids_now),) = await (await connection.execute(_DATABASE)).fetchall()
    return Used(seconds, {"client": cpu}, {}, int(wal_now - wal), int(xids_now - xids))


def told(count: int, used: Used, idle: Used, added: Mapping[str, Table], bare: Used) -> list[str]:
    """Return the report's lines."""
    share = used.seconds / idle.seconds

    def each(whole: float, without_calls: float) -> float:
        return (whole - without_calls * share) / count

    lines = [
        f"{count} calls in {used.seconds:.0f} s, {count / used.seconds:.1f} a second. "
        "For each, without what happens in idle times:\n",
        f"{'':10}{'CPU':>11}{'statements':>12}{'round trips':>13}{'transactions':>14}"
        f"{'writing':>9}",
    ]
    for name in used.cpu:
        row = f"{name:10}{each(used.cpu[name], idle.cpu[name]) * 1000:8.1f} ms"
        if name in used.counts:
            now, before = used.counts[name], idle.counts[name]
            row += _columns(now, before, each)
        lines.append(row)
    cpu = sum(used.cpu.values()), sum(idle.cpu.values())
    lines.append(f"{'all':10}{each(*cpu) * 1000:8.1f} ms" + _columns(_sum(used), _sum(idle), each))
    wal, xids = each(used.wal, idle.wal), each(used.xids, idle.xids)
    bare_wal, bare_ms = bare.wal / _BARE, bare.seconds / _BARE * 1000
    lines += [
        "",
        f"WAL: {wal / 1000:.1f} KB for each call, in {xids:.1f} transactions and savepoints.",
        f"A bare INSERT and COMMIT: {bare_wal / 1000:.2f} KB, {bare_ms:.2f} ms, "
        f"{bare.cpu['client'] / _BARE * 1000:.2f} ms of the client's CPU.",
        f"A call's WAL is that of {wal / bare_wal:.0f} of them.",
        f"In idle times, a second has {_sum(idle).transactions / idle.seconds:.1f} transactions, "
        f"{_sum(idle).writes / idle.seconds:.1f} of which write, "
        f"{idle.wal / idle.seconds / 1000:.1f} KB of WAL and "
        f"{sum(idle.cpu.values()) / idle.seconds * 1000:.0f} ms of CPU.",
        "",
        f"{'added for each call':36}{'rows':>8}{'bytes':>10}",
    ]
    sizes = sorted(added.items(), key=lambda item: -item[1].size)
    lines += [
        f"{name:36}{table.rows / count:8.2f}{table.size / count:10,.0f}"
        for name, table in sizes
        if table.rows or table.size
    ]
    rows, size = (
        sum(getattr(table, what) for table in added.values()) for what in ("rows", "size")
    )
    return [*lines, f"{'all':36}{rows / count:8.2f}{size / count:10,.0f}"]


def _columns(now: Counts, before: Counts, each: Any) -> str:
    return (
        f"{each(now.statements, before.statements):12.1f}"
        f"{each(now.round_trips, before.round_trips):13.1f}"
        f"{each(now.transactions, before.transactions):14.1f}"
        f"{each(now.writes, before.writes):9.1f}"
    )


def _sum(used: Used) -> Counts:
    total = Counts()
    for one in used.counts.values():
        total.texts += one.texts
        total.round_trips += one.round_trips
        total.transactions += one.transactions
        total.writes += one.writes
    return total


def _statements(count: int, used: Used, idle: Used) -> Iterator[str]:
    share = used.seconds / idle.seconds
    for name, one in used.counts.items():
        yield f"\nStatements of {name}, for each call:"
        for text, times in one.texts.most_common():
            often = (times - idle.counts[name].texts[text] * share) / count
            if often > 0.02:
                yield f"{often:6.2f}  {text[:_SHOWN]}"


if __name__ == "__main__":
    main()
