"""Probes that send requests regularly, and record the response, its time and its duration."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from devtools.attack.product import PORTS
from devtools.attack.voice import new_call_sid, read, ring
from devtools.attack.web import Answer, Client
from devtools.chaos.report import Notes
from devtools.chaos.system import System
from devtools.chaos.traffic import ENGINES, Customer
from devtools.chaos.waiting import until

_EVERY_S = 0.5
# Each ring is a call of some seconds, and an account may have ten at a time.
_RING_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A response; ``is_usual`` is True if it is the one that a healthy product gives."""

    name: str
    sent: float
    answer: Answer
    is_usual: bool

    @property
    def came(self) -> float:
        return self.sent + self.answer.seconds


Ask = Callable[[], Awaitable[tuple[Answer, bool]]]


@dataclass
class Probes:
    seen: list[Seen] = field(default_factory=list)
    _asking: set[asyncio.Task[None]] = field(default_factory=set)

    async def keep_asking(self, name: str, ask: Ask) -> None:
        """Send requests at regular intervals, without waiting for earlier responses."""
        while True:
            task = asyncio.create_task(self._once(name, ask))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            await asyncio.sleep(_RING_EVERY_S if name.startswith("voice") else _EVERY_S)

    async def _once(self, name: str, ask: Ask) -> None:
        sent = time.monotonic()
        answer, is_usual = await ask()
        self.seen.append(Seen(name, sent, answer, is_usual))

    async def all_answered(self) -> None:
        await asyncio.gather(*self._asking, return_exceptions=True)

    def of(self, kind: str) -> list[Seen]:
        return sorted((s for s in self.seen if s.name.startswith(kind)), key=lambda s: s.sent)

    def usual_again(self, kind: str, since: float) -> float | None:
        """Return how long after ``since`` all responses were usual again; None: never."""
        unusual = [each.sent for each in self.of(kind) if not each.is_usual]
        later = [s.sent for s in self.of(kind) if s.is_usual and s.sent > max(unusual, default=0.0)]
        return max(0.0, later[0] - since) if later else None


@asynccontextmanager
async def probing(system: System, callers: Sequence[Customer]) -> AsyncIterator[Probes]:
    """Ring each engine, query the API, and request every ``/readyz``.

    :param callers: one per engine; they do nothing else meanwhile.
    """
    probes = Probes()
    tasks = [
        asyncio.create_task(probes.keep_asking(name, ask))
        for name, ask in _questions(system, callers).items()
    ]
    try:
        yield probes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await probes.all_answered()


def _questions(system: System, callers: Sequence[Customer]) -> dict[str, Ask]:
    context = system.context

    def ring_at(name: str, caller: Customer) -> Ask:
        async def ask() -> tuple[Answer, bool]:
            sid = new_call_sid()
            answer = await ring(
                system.traffic.proxy.engine(name),
                to=caller.line.number,
                account=caller.line.twilio,
                call_sid=sid,
                patience=15,
            )
            placed = await system.traffic.connect(caller, sid, answer, engine=name)
            if placed is None:
                return answer, False
            talks = await until(lambda: placed.call.heard or not placed.call.is_open, within=15)
            placed.is_let_in = talks and placed.call.is_open
            await placed.call.hang_up()
            return answer, placed.is_let_in

        return ask

    async def api() -> tuple[Answer, bool]:
        answer = await context.api(callers[0].person, "GET", "/api/account", patience=15)
        return answer, answer.status == 200

    def readiness(port: int) -> Ask:
        async def ask() -> tuple[Answer, bool]:
            answer = await Client(context.session, port, "probe").ask("GET", "/readyz", patience=15)
            return answer, answer.status == 200

        return ask

    return {
        **{
            f"voice at {name}": ring_at(name, caller)
            for name, caller in zip(ENGINES, callers, strict=True)
        },
        "API": api,
        **{f"readyz of {name}": readiness(port) for name, port in PORTS.items()},
    }


def expect_apologies(
    notes: Notes,
    probes: Probes,
    down: float,
    up: float,
    *,
    most: Mapping[str, float],
    settled: float,
) -> None:
    """Check that responses during an outage are fast and report the outage.

    :param most: how many seconds a response of each kind may take.
    :param settled: how many seconds after the outage all responses must be usual.
    """
    away = [s for s in probes.seen if down <= s.sent and s.came <= up]
    for kind, seconds in most.items():
        seen = [s for s in probes.of(kind) if down <= s.sent <= up]
        slowest = max((s.answer.seconds for s in seen), default=0.0)
        notes.measure(f"slowest answer of {kind} ({len(seen)} asked meanwhile)", f"{slowest:.2f} s")
        for each in seen:
            notes.expect(
                f"{kind} answers within {seconds:g} s without a database.",
                each.answer.seconds <= seconds,
                sent=each.name,
                came=f"after {each.answer.seconds:.1f} s: {each.answer.status}",
            )
    for each in away:
        _expect_apology(notes, each)
    for kind in most:
        notes.within(
            f"{kind} is usual again after the database", probes.usual_again(kind, up), settled
        )


def _expect_apology(notes: Notes, seen: Seen) -> None:
    if seen.is_usual:
        return  # it ended before the outage did
    answer = seen.answer
    if seen.name.startswith("voice"):
        verbs = read(answer).verbs
        notes.expect(
            "Twilio receives an apology, as TwiML.",
            answer.status == 200 and "Say" in verbs,
            sent=seen.name,
            came=answer,
        )
    elif seen.name.startswith("API"):
        notes.expect(
            "The API returns 503 with Retry-After.",
            answer.status == 503 and "retry-after" in answer.headers and answer.json is not None,
            sent=seen.name,
            came=f"{answer} {'retry-after' in answer.headers}",
        )
    else:
        notes.expect(
            "A process without a database is not ready.",
            answer.status == 503,
            sent=seen.name,
            came=answer,
        )
