"""``bin/bench calls``: what a whole call costs, from the webhook to the delivered onCallEnd.

The product runs in its production configuration and in a network of its own, with a process of each
kind and a PostgreSQL of its own. Simulated callers all follow one script: they listen to a greeting
and talk for three turns, in one of which the model calls a tool; then they hang up. What processes
and database do without calls is measured first, and subtracted. In the same run, a client does bare
transactions of one INSERT each: the ratio to them depends less on the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from devtools.attack import namespace, product
from devtools.attack.run import NEEDS_NETWORK, exit_with
from devtools.chaos.run import run_with_postgres

# What runs inside the network.
INSIDE = "devtools.bench.calls_session"


def main(arguments: Sequence[str] | None = None) -> None:
    parse(arguments)
    if namespace.command() is None:
        sys.exit(f"bin/bench: {NEEDS_NETWORK}.")
    exit_with("bench", lambda run: run_with_postgres(INSIDE, product.settings(), run))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options: ``calls``, ``at_once``, ``idle``, ``statements``."""
    parser = argparse.ArgumentParser(prog="bin/bench calls", description=__doc__)
    parser.add_argument("--calls", type=int, default=200, help="calls to measure (200)")
    parser.add_argument("--at-once", type=int, default=15, help="calls in progress at a time (15)")
    parser.add_argument("--idle", type=float, default=20, help="seconds to measure idling (20)")
    parser.add_argument(
        "--statements", action="store_true", help="list the statements of each process as well"
    )
    options = parser.parse_args(arguments)
    if min(options.calls, options.at_once) < 1 or options.idle <= 0:
        parser.error("calls, at-once and idle must be more than 0")
    options.short, options.seed = False, 1
    return options


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    main()
