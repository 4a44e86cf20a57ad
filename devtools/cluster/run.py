"""``bin/cluster``: two webs, three engines and two workers on one machine, under a load of calls.

HAProxy terminates TLS in front of them, PgBouncer pools their connections, and lists are read from
a streaming replica. The product runs in its production configuration, in a network of its own.
Simulated callers keep a number of calls in progress, 50 frames a second each way, while a scenario
restarts, kills or stops something. Afterwards every call and every minute is accounted for.

In the scenario ``conversations``, people and a model talk instead, and each conversation must come
out as if nothing had happened.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from devtools.attack import namespace, product
from devtools.attack.run import NEEDS_NETWORK, exit_with, parse_with_common, skip
from devtools.chaos.run import run_with_postgres

SCENARIOS = ("steady", "rolling", "kill", "replica", "conversations")
CALLS, SECONDS, LASTS = 150, 60.0, (40.0, 80.0)
CALLS_IN_SHORT, SECONDS_IN_SHORT, LASTS_IN_SHORT = 24, 15.0, (6.0, 14.0)
TALKS, TURNS = 60, 40
TALKS_IN_SHORT, TURNS_IN_SHORT = 12, 20
# What runs inside the network.
INSIDE = "devtools.cluster.session"
# Debian's packages have the same names.
PROGRAMS = ("haproxy", "pgbouncer")


def main(arguments: Sequence[str] | None = None) -> None:
    parse(arguments)
    if reason := why_not():
        skip(reason)
    exit_with("cluster", _run)


def why_not() -> str:
    """Return why a cluster cannot run on this machine; "" if it can."""
    if namespace.command() is None:
        return NEEDS_NETWORK
    # Debian has them in /usr/sbin, which is not in every user's PATH.
    missing = [name for name in PROGRAMS if program(name) is None]
    if missing:
        return f"it needs {' and '.join(missing)}: apt-get install {' '.join(missing)}"
    return ""


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options: ``names``, ``calls``, ``seconds``, ``lasts``, ``short``, ``seed``.

    ``talks`` and ``turns`` are of the scenario ``conversations``.
    """
    parser = argparse.ArgumentParser(prog="bin/cluster", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=SCENARIOS,
        metavar="NAME",
        help=f"run only this scenario: {', '.join(SCENARIOS)}",
    )
    help_calls = f"calls in progress ({CALLS}; {TALKS} conversations)"
    parser.add_argument("--calls", type=int, help=help_calls)
    parser.add_argument("--seconds", type=float, help=f"seconds of steady load ({SECONDS:.0f})")
    parser.add_argument("--short", action="store_true", help="few and short calls")
    options = parse_with_common(parser, arguments)
    options.talks = options.calls or (TALKS_IN_SHORT if options.short else TALKS)
    options.turns = TURNS_IN_SHORT if options.short else TURNS
    if options.calls is None:
        options.calls = CALLS_IN_SHORT if options.short else CALLS
    if options.seconds is None:
        options.seconds = SECONDS_IN_SHORT if options.short else SECONDS
    if options.calls < 1 or options.seconds <= 0:
        parser.error("calls and seconds must be more than 0")
    options.lasts = LASTS_IN_SHORT if options.short else LASTS
    options.names = [name for name in SCENARIOS if name in (options.only or SCENARIOS)]
    return options


def _run(run: dict[str, str]) -> int:
    Path(run["ATTACK_FOLDER"]).chmod(0o755)  # PgBouncer reads its configuration as another user
    return run_with_postgres(INSIDE, product.settings(), run)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    main()
