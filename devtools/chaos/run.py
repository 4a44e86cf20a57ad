"""``bin/chaos``: processes, databases and networks that fail during calls.

The product runs as in production, in a network of its own and with a PostgreSQL of its own. Each
experiment breaks it in one way (``devtools.chaos.experiments``). Every violated invariant is a
finding.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from devtools.attack import database, namespace, product
from devtools.attack.run import NEEDS_NETWORK, exit_with, parse_with_common, run_apart, skip
from devtools.chaos import postgres
from devtools.chaos.experiments import IN_SHORT, NAMES
from devtools.development import LOCAL_DIR

# Settings that differ from the defaults for the experiments.
SETTINGS = {"MAX_CONCURRENT_CALLS": "10"}
# What runs inside the network.
INSIDE = "devtools.chaos.session"


def main(arguments: Sequence[str] | None = None) -> None:
    parse(arguments)
    if namespace.command() is None:
        skip(NEEDS_NETWORK)
    exit_with("chaos", lambda run: run_with_postgres(INSIDE, product.settings() | SETTINGS, run))


def run_with_postgres(module: str, environment: dict[str, str], run: dict[str, str]) -> int:
    """Run a module in its own network, where it starts a PostgreSQL of its own.

    The module finds that server's folder in ``ATTACK_POSTGRES`` and the name of a migrated database
    in ``ATTACK_DATABASE``: both are for :class:`devtools.chaos.postgres.Postgres`.
    """
    with (
        database.own_database(LOCAL_DIR / "attack", environment) as url,
        postgres.copied(url) as copy,
    ):
        run |= {
            "ATTACK_POSTGRES": str(copy),
            "ATTACK_DATABASE": url.partition("?")[0].rpartition("/")[2],
        }
        return run_apart(module, environment | run)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options: ``names``, ``short``, ``seed``, ``minutes``, ``all``."""
    parser = argparse.ArgumentParser(
        prog="bin/chaos",
        description="Break the product on purpose during calls, and report what failed.",
        epilog="The exit status is 1 if there are findings, and 77 if it cannot run: it needs "
        "Linux with unshare and ip, for a network of its own.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=NAMES,
        metavar="NAME",
        help=f"run only this one: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--short", action="store_true", help="run some experiments, in a minute or two"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=20.0,
        help="start no experiment after this many minutes (20)",
    )
    options = parse_with_common(parser, arguments)
    if options.minutes <= 0:
        parser.error("--minutes must be more than 0")
    chosen = options.only or (IN_SHORT if options.short else NAMES)
    options.names = [name for name in NAMES if name in chosen]
    return options


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    main()
