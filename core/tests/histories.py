"""Histories long enough to show whether a query reads all of them."""

from __future__ import annotations

from django.db import connection
from django.db.models import Model
from django.db.models.expressions import DatabaseDefault

from core.ids import new_id


def insert_copies(row: Model, count: int, **columns: str) -> None:
    """Insert copies of a row that is not saved itself, by one statement, and ANALYZE the table.

    :param columns: SQL for the columns whose values differ, in which ``n`` is 0, 1, 2, …
    """
    meta = row._meta
    values: dict[str, object] = {}
    for field in meta.concrete_fields:
        value = field.pre_save(row, add=True)
        if field.column != meta.pk.column and not isinstance(value, DatabaseDefault):
            values[field.column] = field.get_db_prep_save(value, connection)
    # The beginning of a new id, so that the ids are in the order of the rows.
    columns = {meta.pk.column: f"'{new_id()[:13]}' || lpad(n::text, 12, '0')"} | columns
    same = {column: value for column, value in values.items() if column not in columns}
    names = ", ".join(f'"{name}"' for name in (*same, *columns))
    expressions = (each.replace("%", "%%") for each in columns.values())
    sources = ", ".join((*("%s" for _ in same), *expressions))
    table = f'"{meta.db_table}"'
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names})"  # noqa: S608
            f" SELECT {sources} FROM generate_series(0, %s - 1) AS n",
            [*same.values(), count],
        )
        cursor.execute(f"ANALYZE {table}")
