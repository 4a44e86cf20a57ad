"""Migrations of a database that is in use, and migrations that are stopped halfway."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from core.connections import run_and_let_go
from core.database import schema
from core.database.migrating import alone, is_about_locks, long_transactions, patiently
from core.database.schema import DatabaseSchemaEditor
from core.tests.databases import as_default_database, database_beside
from core.tests.long import only_in_all
from core.tests.web import database_url

_BUILD = "CREATE INDEX CONCURRENTLY scratch_by_word ON scratch (word)"
_COLUMN = "ALTER TABLE scratch ADD COLUMN more integer"


def execute(*statements: str, atomic: bool = False) -> None:
    """Execute statements as a migration does."""
    with connection.schema_editor(atomic=atomic) as editor:
        for statement in statements:
            editor.execute(statement)


@pytest.fixture
def scratch(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """Another connection, which has the table ``scratch`` in use, in a transaction."""
    with psycopg.connect(database_url()) as other:
        other.execute("CREATE TABLE scratch (word text)")
        other.commit()
        other.execute("INSERT INTO scratch VALUES ('in use')")
        yield other
        other.rollback()
        other.execute("DROP TABLE scratch")


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def builders() -> list[int]:
    """Return the server's processes that build an index and wait for a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def built_beside(threads: ThreadPoolExecutor) -> Future[None]:
    """Begin to build the index, up to where it is there and waits for a transaction."""
    building = threads.submit(run_and_let_go, execute, _BUILD)
    while not builders():
        assert not building.done()
    return building


def is_valid() -> bool | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('scratch_by_word')"
        )
        row = cursor.fetchone()
    return row and row[0]


def test_an_index_that_was_stopped_halfway_is_built_anew(
    scratch: psycopg.Connection[Any], beside: ThreadPoolExecutor
) -> None:
    building = built_beside(beside)
    scratch.execute("SELECT pg_terminate_backend(%s, 5000)", builders())
    with pytest.raises(OperationalError):
        building.result(10)
    assert is_valid() is False
    scratch.commit()
    execute(_BUILD, _COLUMN)
    assert is_valid()
    execute(_BUILD, _COLUMN)


def test_an_index_that_a_killed_process_left_being_built_is_built_anew(
    scratch: psycopg.Connection[Any], beside: ThreadPoolExecutor
) -> None:
    """The server does not notice that its client is gone before it has built it."""
    building = built_beside(beside)
    with ThreadPoolExecutor(1) as threads:
        again = threads.submit(run_and_let_go, execute, _BUILD)
        with pytest.raises(OperationalError):
            building.result(10)
        scratch.commit()
        again.result(10)
    assert is_valid()


@pytest.mark.parametrize("atomic", [True, False])
def test_a_migration_does_not_make_queries_wait_for_long(
    scratch: psycopg.Connection[Any],
    beside: ThreadPoolExecutor,
    atomic: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schema, "LOCK_WITHIN_MS", 300)
    altering = beside.submit(run_and_let_go, execute, _COLUMN, atomic=atomic)
    with pytest.raises(OperationalError) as raised:
        altering.result(10)
    assert is_about_locks(raised.value)
    with connection.cursor() as cursor:
        cursor.execute("SELECT word FROM scratch")  # which would wait behind it


def test_a_migration_tries_again_until_it_has_the_lock(
    scratch: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_WITHIN_MS", 50)
    pauses: list[float] = []

    def again(pause: float) -> None:
        pauses.append(pause)
        scratch.commit()

    patiently(lambda: execute(_COLUMN, atomic=True), seconds=60, again=again)
    assert pauses == [1.0]
    execute("SELECT more FROM scratch")


def test_a_migration_gives_up_and_names_what_it_waited_for(
    scratch: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_WITHIN_MS", 2_100)  # it is a long transaction after 2 s
    with pytest.raises(OperationalError):
        patiently(lambda: execute(_COLUMN), seconds=0, again=lambda _: None)
    (suspect,) = long_transactions(connection)
    assert str(scratch.info.backend_pid) in suspect
    assert "idle in transaction" in suspect


def test_one_process_migrates_at_a_time(
    scratch: psycopg.Connection[Any], beside: ThreadPoolExecutor
) -> None:
    """The other waits for it, and does not keep it from building an index."""
    scratch.commit()
    waits = Event()

    def migrate() -> None:
        with alone(connection, waiting=waits.set):
            pass

    with alone(connection, waiting=lambda: None):
        other = beside.submit(run_and_let_go, migrate)
        assert waits.wait(10)
        execute(_BUILD)
        assert not other.done()
    other.result(10)
    assert is_valid()


def test_the_command_does_nothing_twice(transactional_db: None) -> None:
    said, complained = io.StringIO(), io.StringIO()
    call_command("migrate", stdout=said, stderr=complained, no_color=True)
    assert "No migrations to apply" in said.getvalue()
    assert complained.getvalue() == ""


@pytest.fixture
def empty_database(transactional_db: None) -> Iterator[str]:
    """The name of a database without tables."""
    with database_beside("empty") as name:
        yield name


class Stopped(Exception):
    pass


@only_in_all("a minute")
def test_each_migration_can_be_stopped_at_any_statement(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are not atomic run again from their beginning."""
    left = [0]
    execute = DatabaseSchemaEditor.execute

    def stopped(editor: DatabaseSchemaEditor, statement: Any, params: Any = ()) -> None:
        if not editor.atomic_migration:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped
        execute(editor, statement, params)

    with as_default_database(empty_database) as database:
        executor = MigrationExecutor(database)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        state = executor._create_project_state(with_applied_migrations=True)
        monkeypatch.setattr(DatabaseSchemaEditor, "execute", stopped)
        resumed = 0
        for migration, _ in plan:
            for left[0] in count():
                try:
                    state = executor.apply_migration(state.clone(), migration)
                    break
                except Stopped:
                    resumed += 1
        assert resumed > 50
        with database.cursor() as cursor:
            cursor.execute("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid")
            assert cursor.fetchall() == []
