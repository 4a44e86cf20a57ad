"""Measures one or more relays under the same load, in turns.

All relays run and hold their calls from the first turn to the last, but only one at a time has
calls that speak. Turns are short, so that other activity on the machine affects all relays alike.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from devtools.bench import load, relays

LATE_MS = 10.0
FRAMES_PER_MINUTE = 60 / load.FRAME_S


@dataclass(frozen=True, slots=True)
class Setting:
    """The cores to measure on, and the durations in seconds."""

    relay_core: int
    load_core: int
    turns: int = 5
    seconds: float = 4.0  # of a turn
    warm_up: float = 1.0  # before each turn, until all callers speak
    latest: float = 0.5  # after it; a later frame counts as lost
    certificates: Path | None = None  # with which the model speaks TLS; without, it does not


@dataclass(frozen=True, slots=True)
class Measurement:
    relay: str
    calls: int
    cpu_seconds_per_call_minute: float
    round_trip_p50_ms: float
    round_trip_p99_ms: float
    memory_per_call: int
    frames_sent: int
    frames_lost: int
    frames_damaged: int
    frames_out_of_order: int
    #: The relay's and the load's shares of their cores.
    relay_busy: float
    load_busy: float
    #: How late the load was to send, and its share of what it should have sent.
    load_late_p99_ms: float
    load_share: float

    @property
    def is_complete(self) -> bool:
        """Return True if all frames returned unchanged and in order."""
        return not (self.frames_lost or self.frames_damaged or self.frames_out_of_order)

    @property
    def is_rough(self) -> bool:
        """Return True if the load fell behind: its times then say little about the relay."""
        return self.load_late_p99_ms > LATE_MS or not self.is_full

    @property
    def is_full(self) -> bool:
        """Return True if the load sent what it should have sent."""
        return self.load_share > 0.99


async def measure(names: Sequence[str], calls: int, setting: Setting) -> list[Measurement]:
    """Measure new relays; raise OSError or TimeoutError if one cannot take the load."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(load.ModelServer(folder=setting.certificates))
        trials = []
        for name in names:
            running = relays.running(name, core=setting.relay_core, model_url=model.url)
            trial = Trial(name, stack.enter_context(running), calls)
            stack.push_async_callback(trial.end)
            await trial.begin()
            trials.append(trial)
        for turn in range(setting.turns):
            # Back and forth, so that none is always the first after a pause.
            for trial in trials if turn % 2 == 0 else reversed(trials):
                await trial.take_turn(setting)
        return [trial.result() for trial in trials]


class Trial:
    """A relay, the calls through it, and the measurements so far."""

    def __init__(self, name: str, relay: relays.Relay, calls: int) -> None:
        self._name = name
        self._relay = relay
        self._calls = calls
        self._callers = load.Callers(calls)
        self._empty = relay.memory()
        self._memory = 0
        self._seconds = 0.0
        self._cpu = 0.0
        self._load_cpu = 0.0

    async def begin(self) -> None:
        await self._callers.call(self._relay.port)

    async def end(self) -> None:
        await self._callers.hang_up()

    async def take_turn(self, setting: Setting) -> None:
        with self._callers.speaking():
            await asyncio.sleep(setting.warm_up)
            gc.collect()
            gc.disable()
            cpu, load_cpu = self._relay.cpu_seconds(), time.process_time()
            begin = load.now()
            self._callers.tally.window = (begin, begin + round(setting.seconds * 1e6))
            await asyncio.sleep(setting.seconds)
            self._seconds += (load.now() - begin) / 1e6
            self._cpu += self._relay.cpu_seconds() - cpu
            self._load_cpu += time.process_time() - load_cpu
            gc.enable()
        self._memory = self._relay.memory() - self._empty
        await asyncio.sleep(setting.latest)

    def result(self) -> Measurement:
        tally = self._callers.tally
        return Measurement(
            relay=self._name,
            calls=self._calls,
            cpu_seconds_per_call_minute=self._cpu / tally.sent * FRAMES_PER_MINUTE,
            round_trip_p50_ms=_percentile(tally.round_trips, 0.50),
            round_trip_p99_ms=_percentile(tally.round_trips, 0.99),
            memory_per_call=self._memory // self._calls,
            frames_sent=tally.sent,
            frames_lost=tally.sent - len(tally.round_trips),
            frames_damaged=tally.damaged,
            frames_out_of_order=tally.out_of_order,
            relay_busy=self._cpu / self._seconds,
            load_busy=self._load_cpu / self._seconds,
            load_late_p99_ms=_percentile(tally.lateness, 0.99),
            load_share=tally.sent / self._calls / self._seconds * load.FRAME_S,
        )


def _percentile(microseconds: list[int], share: float) -> float:
    """Return the value in milliseconds that ``share`` of the values do not exceed."""
    ordered = sorted(microseconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000 if ordered else 0.0
