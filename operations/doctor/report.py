"""What the doctor prints: a table for people, or JSON."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from core.version import VERSION
from operations.doctor.findings import Finding, Row, Status

_LABELS = {
    Status.OK: "ok",
    Status.WARNING: "WARNING",
    Status.FAILED: "FAILED",
    Status.SKIPPED: "skipped",
}
_COLOURS = {Status.OK: 32, Status.WARNING: 33, Status.FAILED: 31, Status.SKIPPED: 90}
_STATUS_WIDTH = max(map(len, _LABELS.values())) + 2
_WIDEST_TITLE = 30
_NARROWEST_TEXT = 30


def exit_status(rows: Iterable[Row]) -> int:
    return int(any(row.finding.status is Status.FAILED for row in rows))


def as_table(rows: Sequence[Row], *, width: int, has_colour: bool) -> str:
    """Return a line for each finding, with what to do below it, and a summary.

    What a check finds alike for several subjects is said once. Checks that were skipped for one
    reason share a line at the end.
    """
    shown: dict[tuple[str, Finding], list[Row]] = {}
    for row in rows:
        if row.finding.status is not Status.SKIPPED:
            shown.setdefault((row.check.key, row.finding), []).append(row)
    titled = [(_title_of(alike), alike[0].finding) for alike in shown.values()]
    table = _Table([title for title, _ in titled], width, has_colour)
    lines = [line for title, finding in titled for line in table.lines(title, finding)]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.finding.status is Status.SKIPPED:
            reasons.setdefault(row.finding.message, []).append(row.title)
    for reason, titles in reasons.items():
        lines += table.skipped_lines(f"{'; '.join(titles)}. {reason}")
    return "\n".join([*lines, "", _summary(rows)])


def _title_of(rows: Sequence[Row]) -> str:
    return ", ".join([rows[0].title, *(row.subject for row in rows[1:])])


class _Table:
    """The columns: the status, the check, and what it found."""

    def __init__(self, titles: Sequence[str], width: int, has_colour: bool) -> None:
        longest = max(map(len, titles), default=0)
        self._title_width = min(_WIDEST_TITLE, longest) + 2
        indent = _STATUS_WIDTH + self._title_width
        self._text_width = max(_NARROWEST_TEXT, width - indent)
        self._all_width = max(_NARROWEST_TEXT, width - _STATUS_WIDTH)
        self._has_colour = has_colour

    def lines(self, title: str, finding: Finding) -> list[str]:
        texts = _wrapped(finding.message, self._text_width)
        if finding.action:
            texts += _wrapped(f"→ {finding.action}", self._text_width, indent="  ")
        titles = _wrapped(title, self._title_width - 2)
        return [
            (
                self._label(finding.status if at == 0 else None)
                + title.ljust(self._title_width)
                + text
            )
            for at, (title, text) in enumerate(zip_longest(titles, texts, fillvalue=""))
        ]

    def skipped_lines(self, text: str) -> list[str]:
        return [
            self._label(Status.SKIPPED if at == 0 else None) + line
            for at, line in enumerate(_wrapped(text, self._all_width))
        ]

    def _label(self, status: Status | None) -> str:
        if status is None:
            return " " * _STATUS_WIDTH
        label = _LABELS[status].ljust(_STATUS_WIDTH)
        return f"\x1b[{_COLOURS[status]}m{label}\x1b[0m" if self._has_colour else label


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Break lines between words only, so that commands and addresses can be copied."""
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps(
        {
            "version": VERSION,
            "status": Status.FAILED if exit_status(rows) else Status.OK,
            "findings": [
                {
                    "check": row.check.key,
                    "subject": row.subject,
                    "status": row.finding.status,
                    "message": row.finding.message,
                    "action": row.finding.action,
                }
                for row in rows
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def _summary(rows: Sequence[Row]) -> str:
    counts = Counter(row.finding.status for row in rows)
    failures, warnings = counts[Status.FAILED], counts[Status.WARNING]
    if counts.keys() <= {Status.OK}:
        return "Everything is fine."
    said = [f"{failures} failed"] * bool(failures)
    said += [f"{warnings} {'warning' if warnings == 1 else 'warnings'}"] * bool(warnings)
    said += [f"{counts[Status.SKIPPED]} skipped"] * bool(counts[Status.SKIPPED])
    return f"Switchhook {VERSION}: {', '.join(said)}, {counts[Status.OK]} ok."
