"""``bin/upgrade``: the previous release serves calls while this one migrates and takes over.

The product runs as in ``bin/chaos``, but for the database, which nothing happens to.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devtools.attack import database, namespace, product
from devtools.attack.run import NEEDS_NETWORK, exit_with, parse_with_common, run_apart, skip
from devtools.chaos.run import SETTINGS
from devtools.development import LOCAL_DIR
from devtools.upgrade import PREVIOUS, previous_commit
from devtools.upgrade.checkout import NoEnvironment, check_out, python_for

# What runs inside the network.
INSIDE = "devtools.upgrade.session"


def main(arguments: Sequence[str] | None = None) -> None:
    parse(arguments)
    commit = previous_commit()
    if commit is None:
        skip(f"the history lacks {PREVIOUS}, the previous release")
    if namespace.command() is None:
        skip(NEEDS_NETWORK)
    with tempfile.TemporaryDirectory(prefix="upgrade-") as folder:
        previous = Path(folder)
        check_out(commit, previous)
        try:
            python = python_for(previous, LOCAL_DIR / "upgrade")
        except NoEnvironment as error:
            skip(f"the packages of {PREVIOUS} cannot be installed: {error}")
        exit_with("upgrade", lambda run: _upgrade(run, previous, python))


def _upgrade(run: dict[str, str], previous: Path, python: str) -> int:
    environment = product.settings() | SETTINGS
    with database.own_database(
        LOCAL_DIR / "attack", environment, root=previous, python=python
    ) as url:
        run |= {
            "ATTACK_PREVIOUS": str(previous),
            "ATTACK_PREVIOUS_PYTHON": python,
            "DATABASE_URL": url,
        }
        return run_apart(INSIDE, environment | run)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options: ``short``, ``seed``, ``all``."""
    parser = argparse.ArgumentParser(
        prog="bin/upgrade",
        description="Let the previous release serve calls while this one migrates and takes over.",
        epilog="The exit status is 1 if there are findings, and 77 if it cannot run: it needs the "
        "previous release in Git, and Linux with unshare and ip, for a network of its own.",
    )
    parser.set_defaults(short=False)
    return parse_with_common(parser, arguments)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    main()
