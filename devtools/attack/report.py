"""The report: what was tried, and what failed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Finding:
    """A case that failed: what was sent, and what came back."""

    area: str
    case: str
    sent: str
    came: str


@dataclass
class Report:
    attempts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    most_shown: int = 3  # of the same finding

    def table(self) -> str:
        """Return the counts by area and in total, and the skipped areas with the reason."""
        found = Counter(finding.area for finding in self.findings)
        rows = [f"{'area':12}{'attempts':>9}{'findings':>9}"]
        rows += [
            f"{area:12}{count:9,}{found.pop(area, 0):9}" for area, count in self.attempts.items()
        ]
        rows += [f"{area:12}{0:9}{count:9}" for area, count in found.items()]
        rows += [f"{area:12}{'skipped':>9}  {why}" for area, why in self.skipped.items()]
        rows.append(f"{'all':12}{self.attempts.total():9,}{len(self.findings):9}")
        return "\n".join(rows)

    def told(self) -> str:
        """Return the findings: each case once, with its first examples."""
        cases: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            cases.setdefault((finding.area, finding.case), []).append(finding)
        return "\n".join(
            line for found in cases.values() for line in _lines(found, self.most_shown)
        )

    def write(self) -> None:
        if self.findings:
            sys.stdout.write(f"\n{self.told()}\n")
        sys.stdout.write(f"\n{self.table()}\n")
        sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Notes:
    """The report, for one area."""

    area: str
    report: Report

    def expect(self, case: str, holds: bool, *, sent: object = "", came: object = "") -> bool:
        """Count an attempt; record a finding unless it holds. Return ``holds``."""
        self.report.attempts[self.area] += 1
        if not holds:
            finding = Finding(self.area, case, short(sent), short(came))
            self.report.findings.append(finding)
        return holds


def short(thing: object, width: int = _WIDTH) -> str:
    """Return a thing on one line, without control characters."""
    text = thing.decode(errors="replace") if isinstance(thing, bytes) else str(thing)
    start = text[: width + 1]
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in start)
    return line if len(text) <= width else f"{line[:width]}… ({len(text):,} characters)"


def _lines(found: list[Finding], most: int) -> Iterable[str]:
    yield f"[{found[0].area}] {found[0].case}"
    for finding in found[:most]:
        yield f"    sent: {finding.sent}"
        yield f"    came: {finding.came}"
    if len(found) > most:
        yield f"    and {len(found) - most} more like it"
