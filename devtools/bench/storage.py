"""``bin/bench storage``: the bytes of a call in the database, by table and index.

An isolated database is filled twice: as ``bin/bench pages`` does it, where one call in twenty has a
timeline and callbacks, and with all of that for every call.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from devtools.isolated import environment, own_database

_CALLS = 50_000
_MOST_SHOWN = 12
# All partitions of a table together.
_SIZES = r"""
    SELECT regexp_replace(relname, '_\d{4}_\d{2}$', '') AS name,
        sum(pg_table_size(oid))::bigint, sum(pg_indexes_size(oid))::bigint
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    GROUP BY name ORDER BY sum(pg_total_relation_size(oid)) DESC
"""
_INDEXES = r"""
    SELECT regexp_replace(indexrelname, '_\d{4}_\d{2}', '') AS name,
        sum(pg_relation_size(indexrelid))::bigint AS bytes
    FROM pg_stat_user_indexes GROUP BY name ORDER BY bytes DESC, name
"""
# Less is a table that does not grow with calls.
_LEAST_BYTES = 1.0


@dataclass(frozen=True, slots=True)
class Size:
    """The bytes of a call in a table and in its indexes, or in one index."""

    name: str
    table: float
    indexes: float = 0.0

    @property
    def total(self) -> float:
        return self.table + self.indexes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bin/bench storage", description=__doc__)
    parser.add_argument("--calls", type=int, default=_CALLS, help=f"how many ({_CALLS})")
    options = parser.parse_args(arguments)
    if options.calls < 1:
        parser.error("calls must be 1 or more")
    for each, title in ((20, "One call in twenty in full"), (1, "Every call in full")):
        if not (child := os.fork()):  # Django is set up once in a process
            _print(title, options.calls, each)
            sys.exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit("bin/bench storage: it failed, as said above.")


def _print(title: str, calls: int, in_full: int) -> None:
    with own_database("storage") as url:
        os.environ.update(environment(url))
        tables, indexes = measure(calls, in_full)
        print(f"\n{title}: bytes per call, of {calls:,} calls\n")
        print(f"{'table':<36}{'rows':>8}{'indexes':>9}{'both':>8}")
        for each in tables:
            print(f"{each.name:<36}{each.table:8.0f}{each.indexes:9.0f}{each.total:8.0f}")
        sums = [sum(getattr(each, of) for each in tables) for of in ("table", "indexes", "total")]
        print(f"{'together':<36}{sums[0]:8.0f}{sums[1]:9.0f}{sums[2]:8.0f}\n")
        for each in indexes[:_MOST_SHOWN]:
            print(f"{each.name:<44}{each.table:8.0f}")
        sys.stdout.flush()


def measure(calls: int, in_full: int) -> tuple[list[Size], list[Size]]:
    """Return the sizes of the tables and of the indexes that grow with calls, largest first."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from accounts.models import Account

    account = Account.objects.create_user("many@example.com", status=Account.Status.ACTIVE)
    call_command("fill_calls", account=account.email, calls=calls, in_full=in_full)
    tables = [Size(name, *_each(calls, *sizes)) for name, *sizes in _rows_of(_SIZES)]
    indexes = [Size(name, *_each(calls, *sizes)) for name, *sizes in _rows_of(_INDEXES)]
    connections.close_all()
    return [each for each in tables if each.total >= _LEAST_BYTES], indexes


def _rows_of(query: str) -> list[tuple[Any, ...]]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def _each(calls: int, *sizes: int) -> list[float]:
    return [size / calls for size in sizes]


if __name__ == "__main__":
    main()
