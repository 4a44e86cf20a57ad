"""``bin/chaos``: processes, databases and networks that fail while people talk.

The product runs as in production, in a network of its own and with a PostgreSQL of its own, and is
broken experiment by experiment (``chaos.experiments``). What must hold and does not is a finding.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from psycopg import Error

from attack import certificates, database, namespace, product
from attack.run import run_apart
from chaos import postgres
from chaos.experiments import IN_SHORT, NAMES
from config.development import LOCAL_DIR
from config.processes import Failed

# What the experiments need otherwise than an installation has it from the start.
SETTINGS = {"MAX_CONCURRENT_CALLS": "10"}
_CANNOT = 77


def main(arguments: Sequence[str] | None = None) -> None:
    parse(arguments)
    if namespace.command() is None:
        sys.stderr.write("Skipped: it needs unshare and ip, of Linux, for a network of its own.\n")
        sys.exit(_CANNOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    environment = product.settings() | SETTINGS
    try:
        with (
            tempfile.TemporaryDirectory(prefix="chaos-") as folder,
            database.own_database(LOCAL_DIR / "attack", environment) as url,
            postgres.copied(url) as copy,
        ):
            certificates.make(Path(folder))
            logs = LOCAL_DIR / "chaos" / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            run = {
                "ATTACK_FOLDER": folder,
                "ATTACK_LOGS": str(logs),
                "ATTACK_POSTGRES": str(copy),
                "ATTACK_DATABASE": url.partition("?")[0].rpartition("/")[2],
            }
            run |= {name: os.environ[name] for name in ("ATTACK_INSTEAD",) if name in os.environ}
            status = run_apart("chaos", environment | run)
    except (Failed, ImproperlyConfigured, Error) as error:
        sys.exit(f"bin/chaos: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options: ``names``, ``short``, ``seed``, ``minutes``, ``all``."""
    parser = argparse.ArgumentParser(
        prog="bin/chaos",
        description="Break the product on purpose while people talk, and say what did not hold.",
        epilog="The exit status is 1 if there are findings, and 77 where it cannot run: it needs "
        "unshare and ip, of Linux, for a network of its own.",
    )
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument("--short", action="store_true", help="some of it, in a minute or two")
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="begin no experiment after so many (20)"
    )
    parser.add_argument("--all", action="store_true", help="show each finding, not three of a kind")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat it")
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error("--minutes must be more than 0")
    chosen = options.only or (IN_SHORT if options.short else NAMES)
    options.names = [name for name in NAMES if name in chosen]
    if options.seed is None:
        options.seed = 1 if options.short else random.randrange(10**6)  # noqa: S311 (a seed)
    return options


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    main()
