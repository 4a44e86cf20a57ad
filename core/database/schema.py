"""Changes of tables that a running product survives, and that can be run again.

Three things differ from Django's:

- An ``ALTER TABLE`` that waits for a lock makes every later query of that table wait behind it. So
  it waits for ``LOCK_WITHIN_MS`` at most, and ``core.database.migrating`` tries again.
- A migration that is not atomic, because it builds indexes concurrently, can be stopped halfway. It
  then runs again from its beginning: what is there already stays, and an index that is unfinished
  is built anew.
- For each text column that is unique or indexed, Django creates a second index that serves
  ``LIKE 'prefix%'`` in collations other than C. No query here searches a whole table by prefix: the
  few that compare prefixes narrow their rows by account or ID first. For a million rows, such an
  index takes 50 MB for an ID and 77 MB for a Twilio SID, and every inserted row updates it.
"""

from __future__ import annotations

import re
from typing import Any, Self

from django.db import ProgrammingError, models
from django.db.backends.postgresql.schema import DatabaseSchemaEditor as DjangosSchemaEditor
from django.db.transaction import atomic
from django.db.utils import OperationalError
from psycopg import errors

# A request waits 5 s for a statement and a call's webhook 3 s in all, so neither fails meanwhile.
# PostgreSQL takes a table from an autovacuum after 1 s (``deadlock_timeout``).
LOCK_WITHIN_MS = 2_000

_BUILDS_CONCURRENTLY = re.compile(
    r'(CREATE (?:UNIQUE )?INDEX CONCURRENTLY )(?:IF NOT EXISTS )?("?\w+"? ON .*)', re.I | re.S
)
# Only one process migrates at a time, so whoever builds the index belongs to one that was killed.
_END_BUILDERS = """
    SELECT pg_terminate_backend(pid, 10000)
    FROM pg_stat_progress_create_index JOIN pg_stat_activity USING (pid)
    WHERE index_relid = to_regclass(%s) AND usename = current_user
"""
_IS_UNFINISHED = "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid"

_IS_THERE = (errors.DuplicateTable, errors.DuplicateColumn, errors.DuplicateObject)
_IS_GONE = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedObject)


class DatabaseSchemaEditor(DjangosSchemaEditor):
    def __enter__(self) -> Self:
        super().__enter__()
        if self.atomic_migration:
            self._limit_waits_for_locks()
        return self

    def execute(self, sql: Any, params: Any = ()) -> None:
        """Execute a statement; outside of an atomic migration, in a transaction of its own.

        What runs concurrently waits for locks that block nobody, so it needs no limit.
        """
        if self.collect_sql or self.atomic_migration:
            super().execute(sql, params)
        elif building := _BUILDS_CONCURRENTLY.fullmatch(str(sql).strip()):
            create, index = building.groups()
            self._drop_unfinished(index.split(" ", 1)[0])
            super().execute(f"{create}IF NOT EXISTS {index}", params)
        elif "CONCURRENTLY" in str(sql).upper():
            super().execute(sql, params)
        else:
            self._execute_unless_done(sql, params)

    def _execute_unless_done(self, sql: Any, params: Any) -> None:
        try:
            with atomic(using=self.connection.alias):
                self._limit_waits_for_locks()
                super().execute(sql, params)
        except (ProgrammingError, OperationalError) as error:
            if not _was_done_before(str(sql), error.__cause__):
                raise

    def _drop_unfinished(self, index: str) -> None:
        """Drop an index that an earlier run began to build, or to drop, and did not finish.

        :param index: its name, as in the statement.
        """
        with self.connection.cursor() as cursor:
            cursor.execute(_END_BUILDERS, [index])
            cursor.execute(_IS_UNFINISHED, [index])
            if cursor.fetchone() is not None:
                cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")

    def _limit_waits_for_locks(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {LOCK_WITHIN_MS}")

    def _create_like_index_sql(self, model: type[models.Model], field: Any) -> None:
        return None


def _was_done_before(sql: str, cause: BaseException | None) -> bool:
    """Return True if a statement failed because an earlier run of the migration executed it."""
    if re.search(r"\bDROP\b", sql, re.I) and isinstance(cause, _IS_GONE):
        return True
    # ADD CONSTRAINT … USING INDEX: the index belongs to the constraint already.
    takes_index = re.search(r"\bUSING INDEX\b", sql, re.I) is not None
    belongs = takes_index and isinstance(cause, errors.ObjectNotInPrerequisiteState)
    return belongs or isinstance(cause, _IS_THERE)
