"""The report: what was tried, what failed, and what was measured."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from devtools.attack.report import Notes as AttackNotes
from devtools.attack.report import Report as AttackReport


@dataclass
class Report(AttackReport):
    """``cases`` has the checks by experiment, ``measured`` the measurements."""

    cases: dict[str, dict[str, None]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    measured: list[tuple[str, str, str]] = field(default_factory=list)

    def table(self) -> str:
        """Return a row per experiment: attempts, checks, findings, seconds."""
        found = Counter(finding.area for finding in self.findings)
        failed = {(finding.area, finding.case) for finding in self.findings}
        rows = [f"{'experiment':18}{'attempts':>9}{'must hold':>11}{'findings':>10}{'seconds':>9}"]
        for name, count in self.attempts.items():
            kinds = len(self.cases.get(name, {}))
            broken = sum(area == name for area, _ in failed)
            holds = f"{kinds - broken} of {kinds}"
            seconds = self.seconds.get(name, 0.0)
            rows.append(f"{name:18}{count:9,}{holds:>11}{found[name]:10,}{seconds:9.0f}")
        rows += [f"{name:18}{'skipped':>9}  {why}" for name, why in self.skipped.items()]
        seconds = sum(self.seconds.values())
        rows.append(
            f"{'all':18}{self.attempts.total():9,}{'':11}{len(self.findings):10,}{seconds:9.0f}"
        )
        return "\n".join(rows)

    def numbers(self) -> str:
        """Return the measurements, one per line."""
        return "\n".join(f"{name:18}{what}: {value}" for name, what, value in self.measured)

    def write(self) -> None:
        if self.findings:
            sys.stdout.write(f"\n{self.told()}\n")
        sys.stdout.write(f"\n{self.numbers()}\n\n{self.table()}\n")
        sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Notes(AttackNotes):
    """The report, for one experiment."""

    report: Report

    def expect(self, case: str, holds: bool, *, sent: object = "", came: object = "") -> bool:
        self.report.cases.setdefault(self.area, {})[case] = None
        return AttackNotes.expect(self, case, holds, sent=sent, came=came)

    def measure(self, what: str, value: object) -> None:
        self.report.measured.append((self.area, what, str(value)))

    def within(self, case: str, seconds: float | None, most: float, **told: Any) -> bool:
        """Expect something within ``most`` seconds (None: never), and report how long it took."""
        took = "never" if seconds is None else f"{seconds:.2f} s"
        self.measure(case, took)
        return self.expect(case, seconds is not None and seconds <= most, came=took, **told)
