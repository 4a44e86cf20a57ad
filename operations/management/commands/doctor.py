"""``manage.py doctor``: check this installation."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand

from operations.doctor.checks import CHECKS
from operations.doctor.findings import Options
from operations.doctor.report import as_json, as_table, exit_status
from operations.doctor.running import run_checks

_KINDS = ("web", "engine", "worker")


class Command(BaseCommand):
    help = (
        "Check this installation: settings, database, addresses, proxy, Stripe, email, processes. "
        "Exits with status 1 if something fails, and 0 if there are only warnings."
    )
    requires_system_checks = []  # it runs them itself, and goes on

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
        parser.add_argument(
            "--only",
            type=_checks,
            help="the checks to run, separated by commas: "
            + ", ".join(check.key for check in CHECKS),
        )
        parser.add_argument(
            "--processes",
            type=_processes,
            default={},
            help="how many processes you run, such as web=2,engine=2,worker=1 (default: those "
            "that run now)",
        )

    def handle(
        self, *args: Any, only: list[str] | None, processes: dict[str, int], **options: Any
    ) -> None:
        checks = [check for check in CHECKS if only is None or check.key in only]
        rows = run_checks(checks, Options(processes))
        if options["json"]:
            self.stdout.write(as_json(rows))
        else:
            width = shutil.get_terminal_size((100, 24)).columns
            has_colour = self.stdout.isatty() and not options["no_color"]
            self.stdout.write(as_table(rows, width=width, has_colour=has_colour))
        self.stdout.flush()
        if status := exit_status(rows):
            sys.exit(status)


def _checks(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    known = [check.key for check in CHECKS]
    if unknown := set(names) - set(known):
        raise ArgumentTypeError(f"there is no check {min(unknown)!r}")
    return names


def _processes(text: str) -> dict[str, int]:
    try:
        counts = {
            kind.strip(): int(count) for kind, count in (p.split("=") for p in text.split(","))
        }
    except ValueError:
        counts = {}
    if not counts or set(counts) - set(_KINDS) or min(counts.values()) < 0:
        raise ArgumentTypeError(f"must be like web=2,engine=2,worker=1 (it is {text!r})")
    return counts
