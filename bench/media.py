"""``bin/bench media``: what the engine's media socket costs, beside the least a relay can cost.

The same load is put on a bare relay, which passes frames on without looking at them, and on the
engine, in turns. The figures belong to the machine; their ratios are what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import median

import uvloop

from bench.measure import Measurement, Setting, measure
from bench.relays import ENGINE, LIMIT

WARM_UP_S = 3.0
GOOD_P99_MS = 50.0
# A load that is this late to send says more about itself than about the relay.
LATE_MS = 10.0

# While the most calls are looked for: shorter measurements, steps up, then halves of the last step.
STEP_S = 8.0
FIRST_CALLS = 100
STEP_UP = 1.25
CLOSE_ENOUGH = 1.04
COMFORTABLE = 0.6  # of the limit's most calls

# Measurements of the limit and of the engine, by what they show.
Report = dict[str, tuple[Measurement, Measurement]]


def main() -> None:
    options = _options()
    setting = _setting(options.seconds)
    report = uvloop.run(_report(options, setting))
    if options.json:
        results = {title: [asdict(one) for one in pair] for title, pair in report.items()}
        print(json.dumps(results, indent=2))
    else:
        print("\n\n".join(_table(title, pair) for title, pair in report.items()))
    if not all(one.is_complete for pair in report.values() for one in pair):
        sys.exit("bin/bench: frames were lost, changed or out of order.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench media", description=__doc__)
    parser.add_argument("--calls", type=int, default=60, help="calls at the same time (60)")
    parser.add_argument("--seconds", type=float, default=20, help="of a measurement (20)")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each relay (2)")
    parser.add_argument("--max", action="store_true", help="look for the most calls as well")
    parser.add_argument("--json", action="store_true", help="write JSON instead of tables")
    return parser.parse_args()


def _setting(seconds: float) -> Setting:
    """Choose a core for the relay, and keep the load, which is this process, on another."""
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("bin/bench: this needs Linux, where a process can be kept on one core.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bin/bench: this needs two cores, one for the relay and one for the load.")
    os.sched_setaffinity(0, {cores[0]})
    return Setting(cores[-1], cores[0], WARM_UP_S, seconds)


async def _report(options: argparse.Namespace, setting: Setting) -> Report:
    report = {f"{options.calls} calls": await _compare(options.calls, setting, options.rounds)}
    if options.max:
        limit, engine = await _most(LIMIT, setting), await _most(ENGINE, setting)
        report["The most calls that passed"] = limit, engine
        calls = round(limit.calls * COMFORTABLE)
        title = f"{calls} calls, {COMFORTABLE:.0%} of the limit's"
        report[title] = await _compare(calls, setting, options.rounds)
    return report


async def _compare(calls: int, setting: Setting, rounds: int) -> tuple[Measurement, Measurement]:
    """Measure both relays in turns, so that a machine that slows down slows both."""
    limits, engines = [], []
    for _ in range(rounds):
        limits.append(await _measure(LIMIT, calls, setting))
        engines.append(await _measure(ENGINE, calls, setting))
    return _combined(limits), _combined(engines)


async def _most(name: str, setting: Setting) -> Measurement:
    """Return the measurement with the most calls that passed."""
    setting = replace(setting, seconds=min(setting.seconds, STEP_S))
    best = await _measure(name, FIRST_CALLS, setting)
    while _passed(step := await _measure(name, round(best.calls * STEP_UP), setting)):
        best = step
    too_many = step.calls
    while too_many / best.calls > CLOSE_ENOUGH:
        step = await _measure(name, (best.calls + too_many) // 2, setting)
        if _passed(step):
            best = step
        else:
            too_many = step.calls
    return best


def _passed(measured: Measurement) -> bool:
    return measured.is_complete and measured.round_trip_p99_ms < GOOD_P99_MS


async def _measure(name: str, calls: int, setting: Setting) -> Measurement:
    try:
        measured = await measure(name, calls, setting)
    except (OSError, TimeoutError) as error:
        sys.exit(f"bin/bench: the {name} did not take {calls} calls ({error!r}).")
    print(_progress(measured), file=sys.stderr)
    return measured


def _progress(measured: Measurement) -> str:
    late = measured.load_late_p99_ms
    return (
        f"{measured.relay}, {measured.calls} calls: "
        f"{measured.cpu_seconds_per_call_minute:.4f} CPU-s per call-minute, "
        f"p99 {measured.round_trip_p99_ms:.1f} ms, {measured.frames_lost} lost"
        + (f" (rough: the load was {late:.0f} ms late)" if late > LATE_MS else "")
    )


def _combined(rounds: Sequence[Measurement]) -> Measurement:
    """Return the median of each figure, but all frames."""
    figures = {}
    for name, first in asdict(rounds[0]).items():
        values = [getattr(one, name) for one in rounds]
        if name.startswith("frames_"):
            figures[name] = sum(values)
        elif isinstance(first, float):
            figures[name] = median(values)
    return replace(rounds[0], **figures)


_HEAD = (
    f"{'':12}{'calls':>7}{'CPU-s per':>14}{'x limit':>10}{'round trip':>14}{'':>10}{'memory':>10}"
    f"{'frames':>9}{'relay':>8}{'load':>8}\n"
    f"{'':12}{'':>7}{'call-minute':>14}{'':>10}{'p50':>14}{'p99':>10}{'per call':>10}"
    f"{'lost':>9}{'busy':>8}{'busy':>8}"
)


def _table(title: str, pair: tuple[Measurement, Measurement]) -> str:
    limit, _ = pair
    rows = (
        f"{one.relay:12}{one.calls:7}{one.cpu_seconds_per_call_minute:14.4f}"
        f"{one.cpu_seconds_per_call_minute / limit.cpu_seconds_per_call_minute:10.2f}"
        f"{one.round_trip_p50_ms:11.2f} ms{one.round_trip_p99_ms:7.1f} ms"
        f"{one.memory_per_call / 1024:6.0f} KiB{one.frames_lost:9}"
        f"{one.relay_busy:8.0%}{one.load_busy:8.0%}"
        for one in pair
    )
    return "\n".join([title, _HEAD, *rows])


if __name__ == "__main__":
    main()
