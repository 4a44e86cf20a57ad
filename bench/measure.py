"""One measurement: so many calls through one relay for so long."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass

from bench import load, relays


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and for how long is measured: the numbers of cores, and seconds."""

    relay_core: int
    load_core: int
    warm_up: float
    seconds: float
    latest: float = 1.0  # a frame that comes later than that counts as lost


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
    #: The relay's and the load's shares of their cores, and how late the load was to send.
    relay_busy: float
    load_busy: float
    load_late_p99_ms: float

    @property
    def is_complete(self) -> bool:
        """Whether all frames came back as they were and in their order."""
        return not (self.frames_lost or self.frames_damaged or self.frames_out_of_order)


async def measure(name: str, calls: int, setting: Setting) -> Measurement:
    """Measure a freshly started relay; raise OSError or TimeoutError if it takes no such load."""
    async with load.ModelServer() as model:
        with relays.running(name, core=setting.relay_core, model_port=model.port) as relay:
            return await _measure(relay, name, calls, setting)


async def _measure(relay: relays.Relay, name: str, calls: int, setting: Setting) -> Measurement:
    memory = relay.memory()
    callers = load.Callers(calls)
    try:
        await callers.call(relay.port)
        await asyncio.sleep(setting.warm_up)
        gc.collect()
        gc.disable()
        cpu, own, begin = relay.cpu_seconds(), time.process_time(), load.now()
        callers.tally.window = (begin, begin + round(setting.seconds * 1e6))
        await asyncio.sleep(setting.seconds)
        seconds = (load.now() - begin) / 1e6
        cpu, own = relay.cpu_seconds() - cpu, time.process_time() - own
        memory = relay.memory() - memory
        await asyncio.sleep(setting.latest)
    finally:
        gc.enable()
        await callers.hang_up()
    tally = callers.tally
    return Measurement(
        relay=name,
        calls=calls,
        cpu_seconds_per_call_minute=cpu / calls / seconds * 60,
        round_trip_p50_ms=_percentile(tally.round_trips, 0.50),
        round_trip_p99_ms=_percentile(tally.round_trips, 0.99),
        memory_per_call=memory // calls,
        frames_sent=tally.sent,
        frames_lost=tally.sent - len(tally.round_trips),
        frames_damaged=tally.damaged,
        frames_out_of_order=tally.out_of_order,
        relay_busy=cpu / seconds,
        load_busy=own / seconds,
        load_late_p99_ms=_percentile(tally.lateness, 0.99),
    )


def _percentile(microseconds: list[int], share: float) -> float:
    """Return the value in milliseconds that ``share`` of the values do not exceed."""
    ordered = sorted(microseconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000 if ordered else 0.0
