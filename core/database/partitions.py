"""Tables in monthly partitions, by an id that tells when it was created (``core.ids``).

A partition is a table like any other. It is created and attached without a lock that anyone waits
for, and detached and dropped the same way, so deleting a month costs the same however many rows it
has. A migration creates the table, ``PARTITION BY RANGE`` of its primary key, without partitions:
whoever writes to it calls :func:`ensure` first. Such a table has no foreign keys, and none refers
to it, because attaching a partition would lock the other table.

Ids have one length and one alphabet, digits and lower case, which every collation sorts alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from django.db import connection, transaction
from psycopg import sql

from core.ids import first_id_of, made_at

_LOCK_WITHIN = "2s"
# Beside the partitions, those that were detached and not dropped, because their process ended.
_PARTITIONS = """
    SELECT relname, CASE WHEN inhrelid IS NULL THEN 'detached'
        WHEN inhdetachpending THEN 'detaching' ELSE 'attached' END
    FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid
    WHERE relkind = 'r' AND relname ~ %s AND relnamespace = (
        SELECT relnamespace FROM pg_class WHERE oid = to_regclass(%s)
    ) ORDER BY 1
"""
_DETACH = "ALTER TABLE {} DETACH PARTITION {} "

Month = tuple[int, int]
State = Literal["attached", "detaching", "detached"]


def month_of(id: str) -> Month:
    """Return the year and the month (UTC) in which an id was created."""
    at = made_at(id)
    return at.year, at.month


def ensure(table: str, months: Iterable[Month]) -> None:
    """Create the partitions of these months that do not exist, each in its own transaction."""
    for month in sorted(set(months) - _attached(table)):
        _create(table, month)


def drop_before(table: str, moment: datetime) -> list[str]:
    """Drop the partitions of months that ended before a moment; return their names.

    It can be stopped anywhere and called again. Call it outside of transactions: a partition is
    detached concurrently, in two transactions.
    """
    dropped = []
    for month, state in _partitions(table).items():
        if _start_of(_next(month)) <= moment:
            name = _name(table, month)
            if state != "detached":
                how = "FINALIZE" if state == "detaching" else "CONCURRENTLY"
                _run(_DETACH + how, table, name)
            _run("DROP TABLE {}", name)
            dropped.append(name)
    return dropped


def _attached(table: str) -> set[Month]:
    return {month for month, state in _partitions(table).items() if state == "attached"}


def _partitions(table: str) -> dict[Month, State]:
    with connection.cursor() as cursor:
        cursor.execute(_PARTITIONS, [f"^{table}_[0-9]{{4}}_[0-9]{{2}}$", table])
        rows = cursor.fetchall()
    return {(int(name[-7:-3]), int(name[-2:])): state for name, state in rows}


def _create(table: str, month: Month) -> None:
    name = _name(table, month)
    bounds = [first_id_of(_start_of(each)) for each in (month, _next(month))]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [table])
        if month in _attached(table):  # another process was faster
            return
        cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_WITHIN}'")
        _run("DROP TABLE IF EXISTS {}", name)  # one that was detached
        _run("CREATE TABLE {} (LIKE {} INCLUDING ALL)", name, table)
        _run(
            "ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})",
            *(table, name),
            values=bounds,
        )


def _run(statement: str, *names: str, values: Iterable[str] = ()) -> None:
    parts = [*map(sql.Identifier, names), *map(sql.Literal, values)]
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(*parts))


def _name(table: str, month: Month) -> str:
    return f"{table}_{month[0]:04}_{month[1]:02}"


def _next(month: Month) -> Month:
    year, number = month
    return (year + 1, 1) if number == 12 else (year, number + 1)


def _start_of(month: Month) -> datetime:
    return datetime(*month, 1, tzinfo=UTC)
