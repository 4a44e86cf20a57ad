"""``bin/attack``: hostile customers, callers and backends, against production's settings.

The product runs with ``DEBUG`` off, in a network of its own (``devtools.attack.namespace``), and is
attacked area by area (``devtools.attack.areas``). Every failure is a finding.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from django.core.exceptions import ImproperlyConfigured
from psycopg import Error

from devtools.attack import certificates, database, namespace, product
from devtools.attack.areas import NAMES
from devtools.development import LOCAL_DIR
from devtools.processes import ROOT, Failed

# What runs inside the network.
INSIDE = "devtools.attack.session"
# The exit status of what cannot run on this machine.
_CANNOT = 77
NEEDS_NETWORK = "it needs Linux with unshare and ip, for a network of its own"


def main(arguments: Sequence[str] | None = None) -> None:
    parse(arguments)
    exit_with("attack", _attack)


def _attack(run: dict[str, str]) -> int:
    environment = product.settings()
    with database.own_database(LOCAL_DIR / "attack", environment) as url:
        return run_apart(INSIDE, environment | run | {"DATABASE_URL": url})


def skip(reason: str) -> NoReturn:
    """Say why this cannot run here, and exit as ``bin/test`` expects of what is skipped."""
    sys.stderr.write(f"Skipped: {reason}.\n")
    sys.exit(_CANNOT)


def exit_with(program: str, work: Callable[[dict[str, str]], int]) -> None:
    """Do the work, and exit with the status that it returns.

    ``work`` receives variables with its folders: one with certificates, one for logs.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix=f"{program}-") as folder:
            certificates.make(Path(folder))
            logs = LOCAL_DIR / program / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            run = {"ATTACK_FOLDER": folder, "ATTACK_LOGS": str(logs)}
            run |= {name: os.environ[name] for name in ("ATTACK_INSTEAD",) if name in os.environ}
            status = work(run)
    except (Failed, ImproperlyConfigured, Error) as error:
        sys.exit(f"bin/{program}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options: ``areas``, ``short``, ``seed``, ``all``."""
    parser = argparse.ArgumentParser(
        prog="bin/attack",
        description="Attack the product in its production configuration, and report what failed.",
        epilog="The exit status is 1 if there are findings. It needs Linux with unshare and ip, "
        "for a network of its own; without them it does what it can on 127.0.0.1.",
    )
    parser.add_argument(
        "--area",
        action="append",
        choices=NAMES,
        metavar="NAME",
        help=f"attack only this one: {', '.join(NAMES)}",
    )
    parser.add_argument("--short", action="store_true", help="run some attacks of each area")
    options = parse_with_common(parser, arguments)
    options.areas = options.area or list(NAMES)
    return options


def parse_with_common(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Return the options, with ``all`` and ``seed`` as well; the parser knows ``--short``."""
    parser.add_argument(
        "--all", action="store_true", help="show every finding, not only three of a kind"
    )
    parser.add_argument("--seed", type=int, help="repeat the run with this seed")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = 1 if options.short else random.randrange(10**6)  # noqa: S311 (a seed)
    return options


def run_apart(module: str, environment: dict[str, str]) -> int:
    """Run a module with our arguments, in its own network if that is allowed.

    ``ATTACK_FOLDER`` in the environment is the folder with the certificates.
    """
    apart = namespace.command()
    command = [*(apart or []), sys.executable, "-m", module, *sys.argv[1:]]
    environment["ATTACK_APART"] = "1" if apart else ""
    if apart:  # libraries read this at import
        environment["SSL_CERT_FILE"] = f"{environment['ATTACK_FOLDER']}/{certificates.AUTHORITY}"
    # It exits when its standard input is closed, however we exit.
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL if apart else signal.SIGTERM)
            process.wait(30)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    main()
