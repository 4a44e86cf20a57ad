"""Rows that the database refuses to change: what a sweep may meet, whatever the cause."""

from __future__ import annotations

from django.db import connection


def refuse(table: str, condition: str) -> None:
    """Let every change of a row fail for which the condition holds (SQL, on ``NEW``).

    The test's transaction takes it away again.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION refuse_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF {condition} THEN RAISE 'refused'; END IF; RETURN NEW; END $$;"
            f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table}"
            f" FOR EACH ROW EXECUTE FUNCTION refuse_{table}()"
        )
