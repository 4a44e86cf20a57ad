"""``bin/mutate``: put faults into the call engine, one at a time; count those its tests find.

A mutant that survives the engine's named tests is also tried with generated conversations, and
printed if it survives these. Mutants that change nothing observable are listed in
``equivalent.toml``, with the reason.
"""

from __future__ import annotations

import argparse
import difflib
import os
import random
import shutil
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from devtools.mutation import trial
from devtools.mutation.operators import mutants
from devtools.mutation.trial import Fault, Suite

ROOT = Path(__file__).resolve().parents[2]
ENGINE = Path("telephony/engine")
TESTS = "telephony/tests/engine"
GENERATED = f"{TESTS}/test_any_order.py"
EXAMPLES = 200  # of each generated test, for a mutant that the named tests did not find
LEAST = 95.0  # percent that must be found or explained

_OUTCOMES = {
    trial.SURVIVED: "survived",
    trial.NAMED: "named",
    trial.GENERATED: "generated",
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="mutate-") as name:
        folder = Path(name)
        copy(folder)
        faults = all_faults(folder)
        if options.sample:
            random_ = random.Random(options.seed)  # noqa: S311 (a sample)
            faults = random_.sample(faults, min(options.sample, len(faults)))
            print(f"{len(faults)} of the engine's mutants, with --seed {options.seed}")
        score = judge(folder, faults, options.jobs)
    sys.exit(0 if score >= LEAST else 1)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options: ``sample``, ``seed``, ``jobs``."""
    parser = argparse.ArgumentParser(
        prog="bin/mutate",
        description="Put faults into the call engine, and count those that its tests find.",
        epilog=f"The exit status is 1 if fewer than {LEAST:.0f}%% are found or explained.",
    )
    parser.add_argument("--sample", type=int, metavar="N", help="try only N of them")
    parser.add_argument("--seed", type=int, help="repeat the sample with this seed")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="how many to run at a time (%(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(10**6)  # noqa: S311 (a seed)
    return options


def copy(folder: Path) -> None:
    """Copy the engine and its tests, so that the checkout stays unchanged."""
    for name in (str(ENGINE), TESTS):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("telephony", "telephony/tests"):
        (folder / name / "__init__.py").touch()


def all_faults(folder: Path) -> list[Fault]:
    return [
        Fault(path, mutant)
        for path in sorted((folder / ENGINE).rglob("*.py"))
        for mutant in mutants(path.read_bytes())
    ]


def judge(folder: Path, faults: list[Fault], jobs: int) -> float:
    """Try each fault, print the survivors and the counts; return the score, in percent."""
    os.environ["EXAMPLES"] = str(EXAMPLES)
    suite = Suite(folder, TESTS, GENERATED)
    if not trial.observe(suite):
        sys.exit("bin/mutate: the tests fail without any mutant.")
    explained = explanations()
    counts: Counter[tuple[str, str]] = Counter()
    for fault, status in trial.outcomes(suite, faults, jobs):
        outcome = _OUTCOMES.get(status, "cut")
        if outcome == "survived":
            lines = diff(fault, folder)
            name, before, after = change(lines)
            if {(name, before, after), (name, before, "")} & explained:
                outcome = "explained"
            else:
                print("\n" + "\n".join(lines), flush=True)
        counts[fault.path.name, outcome] += 1
    return report(counts)


def diff(fault: Fault, folder: Path) -> list[str]:
    """Return the fault as a diff."""
    before = fault.path.read_text().splitlines()
    after = fault.source().decode().splitlines()
    name = str(fault.path.relative_to(folder))
    return [line.rstrip() for line in difflib.unified_diff(before, after, name, lineterm="")]


def explanations() -> set[tuple[str, str, str]]:
    """Return the equivalent mutants: file, line, and replacement ("": any)."""
    entries = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())
    return {
        (f"{name}.py", entry["line"], instead)
        for name, of_module in entries.items()
        for entry in of_module
        for instead in entry.get("instead", [""])
    }


def change(lines: list[str]) -> tuple[str, str, str]:
    """Return what a diff changes: file, line, and replacement."""
    before = " ".join(line[1:].strip() for line in lines[3:] if line.startswith("-"))
    after = " ".join(line[1:].strip() for line in lines[3:] if line.startswith("+"))
    return Path(lines[0]).name, before, after


def report(counts: Counter[tuple[str, str]]) -> float:
    """Print the counts by module; return the percentage that was found or explained."""
    columns = ("named", "generated", "cut", "explained", "survived")
    print(
        f"\n{'module':20}{'mutants':>8}" + "".join(f"{name:>10}" for name in columns) + "   score"
    )
    score = 0.0
    modules = sorted({module for module, _ in counts})
    for title, names in [*((module, [module]) for module in modules), ("all", modules)]:
        sums = [sum(counts[name, column] for name in names) for column in columns]
        score = 100 * (1 - sums[-1] / max(1, sum(sums)))
        numbers = f"{sum(sums):8,}" + "".join(f"{number:10,}" for number in sums)
        print(f"{title:20}{numbers}{score:6.1f} %")
    return score


if __name__ == "__main__":
    main()
