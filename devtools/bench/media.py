"""``bin/bench media``: the cost of the engine's media socket, compared with a bare relay.

The same load runs on a bare relay, which forwards frames without looking at them, and on the
engine. The figures depend on the machine; their ratio is what matters. It also depends on how the
memory of a process happens to be laid out, so that all relays are started several times.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from devtools.attack import certificates
from devtools.bench.measure import Measurement, Setting, measure
from devtools.bench.relays import ENGINE, LIMIT, WITH_METRICS

GOOD_P99_MS = 50.0

# The search for the maximum: steps up, then halves of the last step.
FIRST_CALLS = 100
STEP_UP = 1.25
CLOSE_ENOUGH = 1.04
TRIES = 3
COMFORTABLE = 0.6  # of the limit's maximum

Relays = list[Measurement]  # the limit first
Report = dict[str, list[Relays]]  # by topic, one for each start


def main() -> None:
    options = _options()
    with ExitStack() as stack:
        setting = _setting(options)
        if options.tls:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            certificates.make(folder)
            os.environ["SSL_CERT_FILE"] = str(folder / certificates.AUTHORITY)
            setting = replace(setting, certificates=folder)
        report = uvloop.run(_report(options, setting))
    if options.json:
        results = {
            title: [[asdict(one) for one in relays] for relays in starts]
            for title, starts in report.items()
        }
        print(json.dumps(results, indent=2))
    else:
        print("\n\n".join(_table(title, starts) for title, starts in report.items()))
    if not all(one.is_complete for starts in report.values() for each in starts for one in each):
        sys.exit("bin/bench: frames were lost, changed or out of order.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench media", description=__doc__)
    parser.add_argument("--calls", type=int, default=60, help="concurrent calls (60)")
    parser.add_argument("--turns", type=int, default=3, help="turns per relay and start (3)")
    parser.add_argument("--seconds", type=float, default=4, help="seconds per turn (4)")
    parser.add_argument("--starts", type=int, default=5, help="starts of all relays (5)")
    parser.add_argument("--tls", action="store_true", help="encrypt the way to the model")
    parser.add_argument(
        "--max", action="store_true", help="also look for the maximum number of calls"
    )
    parser.add_argument(
        "--metrics", action="store_true", help="also measure an engine that counts for Prometheus"
    )
    parser.add_argument("--json", action="store_true", help="write JSON instead of tables")
    options = parser.parse_args()
    if min(options.calls, options.turns, options.starts) < 1 or options.seconds <= 0:
        parser.error("calls, turns, starts and seconds must be more than 0")
    return options


def _setting(options: argparse.Namespace) -> Setting:
    """Choose a core for the relays, and keep this process, the load, on another."""
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("bin/bench: this needs Linux, where a process can be pinned to a core.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bin/bench: this needs two cores, one for the relays and one for the load.")
    os.sched_setaffinity(0, {cores[0]})
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # two for each call
    return Setting(cores[-1], cores[0], turns=options.turns, seconds=options.seconds)


async def _report(options: argparse.Namespace, setting: Setting) -> Report:
    both = (LIMIT, ENGINE)
    names = (*both, WITH_METRICS) if options.metrics else both
    way = ", TLS to the model" if options.tls else ""
    title = f"{options.calls} calls{way}"
    report = {title: [await _measure(names, options.calls, setting) for _ in range(options.starts)]}
    if options.max:
        most = [await _most(name, setting) for name in both]
        report["The maximum number of calls"] = [most]
        calls = round(most[0].calls * COMFORTABLE)
        title = f"{calls} calls, {COMFORTABLE:.0%} of the limit's most"
        report[title] = [await _measure(both, calls, setting)]
    return report


async def _most(name: str, setting: Setting) -> Measurement:
    """Return the passing measurement with the most calls."""
    setting = replace(setting, turns=1, seconds=setting.seconds * 2)
    [best] = await _measure([name], FIRST_CALLS, setting)
    too_many: float = float("inf")
    while too_many / best.calls > CLOSE_ENOUGH:
        calls = min(best.calls * STEP_UP, (best.calls + too_many) / 2)
        step = await _try(name, round(calls), setting)
        if _passed(step):
            best = step
        else:
            too_many = step.calls
    return best


async def _try(name: str, calls: int, setting: Setting) -> Measurement:
    """Measure; repeat if something else on the machine delayed the load."""
    for _ in range(TRIES):
        [step] = await _measure([name], calls, setting)
        if _passed(step) or not step.is_rough:
            break
    return step


def _passed(measured: Measurement) -> bool:
    is_quick = measured.round_trip_p99_ms < GOOD_P99_MS
    return measured.is_complete and measured.is_full and is_quick


async def _measure(names: Sequence[str], calls: int, setting: Setting) -> Relays:
    try:
        measured = await measure(names, calls, setting)
    except (OSError, TimeoutError) as error:
        sys.exit(f"bin/bench: {' and '.join(names)} did not take {calls} calls ({error!r}).")
    for one in measured:
        print(_progress(one), file=sys.stderr)
    return measured


def _progress(measured: Measurement) -> str:
    late = measured.load_late_p99_ms
    return (
        f"{measured.relay}, {measured.calls} calls: "
        f"{measured.cpu_seconds_per_call_minute:.4f} CPU-s per call-minute, "
        f"p99 {measured.round_trip_p99_ms:.1f} ms, {measured.frames_lost} lost"
        + (f" (rough: the load was {late:.0f} ms late)" if measured.is_rough else "")
    )


_HEAD = (
    f"{'':12}{'calls':>7}{'CPU-s per':>14}{'x limit':>10}{'round trip':>14}{'':>10}{'memory':>10}"
    f"{'frames':>9}{'relay':>8}{'load':>8}\n"
    f"{'':12}{'':>7}{'call-minute':>14}{'':>10}{'p50':>14}{'p99':>10}{'per call':>10}"
    f"{'lost':>9}{'busy':>8}{'busy':>8}"
)


def _table(title: str, starts: Sequence[Relays]) -> str:
    """Return the start whose engine has the median ratio, and all ratios."""
    ratios = [[_ratio(one, relays[0]) for one in relays] for relays in starts]
    middle = statistics.median_low(each[1] for each in ratios)
    shown = next(at for at, each in enumerate(ratios) if each[1] == middle)
    rows = [_row(one, ratio) for one, ratio in zip(starts[shown], ratios[shown], strict=True)]
    if len(starts) > 1:
        rows.append(f"x limit in {len(starts)} starts, of which the table shows the median:")
        for name, of_relay in zip(starts[0], zip(*ratios, strict=True), strict=True):
            rows.append(f"{name.relay:12}" + "".join(f"{each:7.2f}" for each in sorted(of_relay)))
    return "\n".join([title, _HEAD, *rows])


def _ratio(one: Measurement, limit: Measurement) -> float:
    return one.cpu_seconds_per_call_minute / limit.cpu_seconds_per_call_minute


def _row(one: Measurement, ratio: float) -> str:
    return (
        f"{one.relay:12}{one.calls:7}{one.cpu_seconds_per_call_minute:14.4f}{ratio:10.2f}"
        f"{one.round_trip_p50_ms:11.2f} ms{one.round_trip_p99_ms:7.1f} ms"
        f"{one.memory_per_call / 1024:6.0f} KiB{one.frames_lost:9}"
        f"{one.relay_busy:8.0%}{one.load_busy:8.0%}"
    )


if __name__ == "__main__":
    main()
