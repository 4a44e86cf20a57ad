"""Runs the doctor's checks: each alone, with a deadline, and all at once where that is possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Thread
from time import monotonic

import psycopg
from django.conf import settings

from core.connections import database_within, run_and_let_go
from core.logs import without_credentials
from operations.doctor.checks.database import DATABASE
from operations.doctor.findings import Check, Finding, Options, Row, Status, failed, skipped

# For everything that one check waits for. Each wait has a shorter limit of its own.
DEADLINE_S = 20.0
_QUERIES_WITHIN_S = 10.0


def run_checks(checks: Sequence[Check], options: Options) -> list[Row]:
    """Return the findings in the order of the checks.

    The database comes first: if there is none, what needs it is skipped instead of waiting.
    """
    first = [check for check in checks if check is DATABASE]
    rows = _run_together(first, options, has_database=True)
    # Without its check, as with --only, whatever needs the database finds out by itself.
    has_database = all(row.finding.status in (Status.OK, Status.WARNING) for row in rows)
    others = [check for check in checks if check is not DATABASE]
    rows += _run_together(others, options, has_database=has_database)
    places = {check.key: place for place, check in enumerate(checks)}
    return sorted(rows, key=lambda row: places[row.check.key])


def _run_together(checks: Iterable[Check], options: Options, *, has_database: bool) -> list[Row]:
    runs = [
        _Run(check, subject, options, has_database)
        for check in checks
        for subject in check.subjects
    ]
    until = monotonic() + DEADLINE_S
    for run in runs:
        run.start()
    return [row for run in runs for row in run.rows(until)]


class _Run(Thread):
    """One check of one subject. A thread that never returns does not keep the process alive."""

    def __init__(self, check: Check, subject: str, options: Options, has_database: bool) -> None:
        super().__init__(name=f"doctor-{check.key}", daemon=True)
        self._check = check
        self._subject = subject
        self._options = options
        self._has_database = has_database
        self._found: list[Finding] = []

    def run(self) -> None:
        try:
            if reason := self._reason_to_skip():
                self._found.append(skipped(reason))
                return
            with database_within(_QUERIES_WITHIN_S):
                run_and_let_go(self._collect)
        except Exception as error:
            self._found.append(_broken(error))

    def rows(self, until: float) -> list[Row]:
        """Wait for the findings, but not beyond the deadline."""
        self.join(max(0.0, until - monotonic()))
        found = list(self._found)
        if self.is_alive():
            found.append(
                failed(
                    f"No result within {DEADLINE_S:g} seconds.",
                    "Something that this check connects to accepts connections and does not "
                    "respond, or a name server does not. Run it again with --only "
                    f"{self._check.key} to see whether that lasts.",
                )
            )
        return [Row(self._check, self._subject, finding) for finding in found]

    def _reason_to_skip(self) -> str:
        needed = (*self._check.needs, self._subject)
        if wrong := [name for name in needed if name and not settings.ENVIRONMENT.is_good(name)]:
            return f"It needs {wrong[0]}, which is wrong: see above."
        if self._check.needs_database and not self._has_database:
            return "It needs the database: see above."
        return ""

    def _collect(self) -> None:
        for finding in self._check.run(self._subject, self._options):
            self._found.append(finding)


def _broken(error: Exception) -> Finding:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return skipped("It needs tables that are missing: see the migrations.")
    said = without_credentials(str(cause)).strip().partition("\n")[0]
    return failed(
        f"The check stopped with {type(cause).__name__}: {said or 'no message'}",
        "If the message does not say what to do, report it as a bug, with the output of "
        "manage.py doctor --json.",
    )
