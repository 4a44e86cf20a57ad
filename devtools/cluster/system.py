"""The running cluster, and the load on it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from devtools.attack.product import Process
from devtools.chaos.invariants import check
from devtools.chaos.postgres import Postgres
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.traffic import Customer, Placed
from devtools.chaos.waiting import until
from devtools.cluster.balancer import Balancer
from devtools.cluster.pooler import Pooler
from devtools.processes import ROOT, Failed, cpu_seconds

_LINE_LIMIT = 4 << 20
_REACHED_WITHIN_S = 180.0
_OVER_WITHIN_S = 60.0


@dataclass
class CallOutside:
    """A call as its caller knows it; times are of ``time.monotonic()``."""

    call_sid: str
    number: str
    rang_at: float
    webhook_s: float
    connects: bool
    said: str = ""
    opened: float = 0.0
    closed: float | None = None
    has_hung_up: bool = False
    has_heard: bool = False
    gap: float = 0.0
    damaged: int = 0
    why: str = ""
    moves: list[float] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return bool(self.opened) and self.closed is None

    def has_moved_since(self, moment: float) -> bool:
        """Return True if another stream was opened for it since then."""
        return any(at > moment for at in self.moves)

    @property
    def seconds(self) -> float:
        return (self.closed or time.monotonic()) - self.opened

    @property
    def is_cut(self) -> bool:
        """True if the product or the network ended it, not the caller."""
        return self.closed is not None and not self.has_hung_up


@dataclass
class Load:
    """The processes with callers, and every call that they have placed."""

    customers: list[Customer]
    lasts: tuple[float, float]
    count: int
    calls: dict[str, CallOutside] = field(default_factory=dict)
    most: int = 0
    round_trips: Counter[int] = field(default_factory=Counter)  # in tenths of a millisecond
    _processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)
    _over: int = 0

    async def start(self) -> None:
        numbers = [
            (each.line.number, each.line.twilio.sid, each.line.twilio.token)
            for each in self.customers
        ]
        told = json.dumps({"numbers": numbers, "lasts": self.lasts})
        for _ in range(self.count):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "devtools.cluster.caller", told),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                limit=_LINE_LIMIT,
            )
            self._processes.append(process)
            self._readers.append(asyncio.create_task(self._read(process)))

    async def stop(self) -> None:
        for process in self._processes:
            process.kill()
            await process.wait()
        for task in self._readers:
            task.cancel()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    @property
    def open_calls(self) -> list[CallOutside]:
        return [call for call in self.calls.values() if call.is_open]

    async def hold(self, calls: int, *, a_second: float) -> None:
        """Keep this many calls in progress; return when there are."""
        share = -(-calls // self.count)
        self._tell({"hold": share, "a_second": a_second / self.count})
        if not await until(lambda: len(self.open_calls) >= calls, within=_REACHED_WITHIN_S):
            raise Failed(f"Of {calls} calls, {len(self.open_calls)} are in progress.")

    async def end(self) -> None:
        """Hang up all calls, and place no more."""
        self._over = 0
        self._tell({"end": True})
        if not await until(lambda: self._over == self.count, within=_OVER_WITHIN_S):
            raise Failed("The callers did not all hang up.")

    def _tell(self, command: Mapping[str, Any]) -> None:
        for process in self._processes:
            writer = cast(asyncio.StreamWriter, process.stdin)
            writer.write(json.dumps(command).encode() + b"\n")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        reader = cast(asyncio.StreamReader, process.stdout)
        while line := await reader.readline():
            self._note(json.loads(line))

    def _note(self, told: dict[str, Any]) -> None:
        match told.pop("event"):
            case "rang":
                sid = told["sid"]
                self.calls[sid] = CallOutside(
                    sid,
                    told["number"],
                    told["at"],
                    told["seconds"],
                    connects=told["connects"],
                    said=told["said"],
                )
            case "unconnected":
                self.calls[told["sid"]].why = told["why"]
            case "opened":
                self.calls[told["sid"]].opened = told["at"]
                self.most = max(self.most, len(self.open_calls))
            case "moved":
                self.calls[told["sid"]].moves.append(told["at"])
            case "closed":
                call = self.calls[told["sid"]]
                call.opened, call.closed = told["opened"], told["closed"]
                call.has_hung_up, call.has_heard = told["hung_up"], told["heard"]
                call.gap, call.damaged = told["gap"], told["damaged"]
            case "over":
                self._over += 1
                trips = told["round_trips"].items()
                self.round_trips.update({int(tenths): count for tenths, count in trips})


@dataclass
class Cluster:
    system: System
    load: Load
    front: Balancer
    pooler: Pooler
    replica: Postgres
    others: dict[str, list[int]]  # processes that are not the product's, by name
    folder: Path
    names: tuple[str, ...]
    options: Any

    @property
    def engines(self) -> list[str]:
        return [name for name in self.names if name.startswith("engine")]

    @property
    def processes(self) -> dict[str, Process]:
        return self.system.context.product.processes

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of every process so far, by name."""
        product = {name: self.processes[name].cpu_seconds() for name in self.names}
        databases = {
            "postgres": self.system.postgres.cpu_seconds(),
            "replica": self.replica.cpu_seconds(),
            "pgbouncer": cpu_seconds(self.pooler.pid),
            "haproxy": sum(map(cpu_seconds, self.front.workers())),
        }
        others = {name: sum(map(cpu_seconds, pids)) for name, pids in self.others.items()}
        return product | databases | others

    async def measure(self, notes: Notes, seconds: float) -> None:
        """Wait, and report what each process uses meanwhile."""
        before, began = self.cpu_seconds(), time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        for name, now in self.cpu_seconds().items():
            notes.measure(f"{name}, of a core", f"{(now - before[name]) / took:.0%}")

    def placed(self, calls: Iterable[CallOutside], killed: Mapping[str, float]) -> list[Placed]:
        """Return calls that were connected, as the invariants want them.

        :param killed: when the engine of a call was killed, by CallSid. It may not have said a
            word yet.
        """
        customers = {each.line.number: each for each in self.load.customers}
        return [
            Placed(
                customers[call.number],
                call.call_sid,
                "",
                cast(Any, call),
                killed_at=killed.get(call.call_sid),
                is_let_in=call.has_heard or call.has_hung_up or call.call_sid in killed,
            )
            for call in calls
            if call.opened
        ]

    async def check(
        self, notes: Notes, calls: list[CallOutside], killed: Mapping[str, float]
    ) -> None:
        """Account for every call, apart from how it ended; ``killed`` is as for ``placed``."""
        await check(self.system, notes, self.placed(calls, killed))


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one scenario; times in milliseconds."""

    scenario: str
    seconds: float
    placed: int
    most: int
    cut: int
    lost: int
    charged: int
    reported: int
    webhook: tuple[float, float]
    round_trip: tuple[float, float]

    @classmethod
    def head(cls) -> str:
        return (
            f"{'scenario':10}{'seconds':>8}{'placed':>8}{'at most':>8}{'cut':>5}{'lost':>6}"
            f"{'charged':>9}{'reported':>9}{'webhook p50, p99':>22}{'round trip p50, p99':>24}"
        )

    def __str__(self) -> str:
        webhook = f"{self.webhook[0]:.0f} and {self.webhook[1]:.0f} ms"
        trip = f"{self.round_trip[0]:.1f} and {self.round_trip[1]:.1f} ms"
        return (
            f"{self.scenario:10}{self.seconds:8.0f}{self.placed:8}{self.most:8}{self.cut:5}"
            f"{self.lost:6}{self.charged:9}{self.reported:9}{webhook:>22}{trip:>24}"
        )


def percentile(counts: Mapping[float, int], share: float) -> float:
    """Return the value that ``share`` of all values do not exceed; 0 if there are none."""
    most, seen = share * sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= most:
            return float(value)
    return 0.0
