"""Monthly partitions of a real table."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection

from core.connections import run_and_let_go
from core.database import partitions
from core.ids import first_id_of

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = "partitions_tested"
JANUARY, DECEMBER, FEBRUARY = (2026, 1), (2025, 12), (2026, 2)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
A_MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {TABLE} (id varchar(25) PRIMARY KEY) PARTITION BY RANGE (id)")
        yield
        cursor.execute(f"DROP TABLE {TABLE}")


@pytest.fixture
def reader() -> Iterator[psycopg.Connection[tuple[str]]]:
    """Another connection, in a transaction that has read the table."""
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT id FROM partitions_tested")
        yield other


def add(moment: datetime) -> str:
    id = first_id_of(moment) + "0" * 16
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO partitions_tested VALUES (%s)", [id])
    return id


def tables_of(*ids: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tableoid::regclass::text FROM partitions_tested WHERE id = ANY(%s) ORDER BY id",
            [list(ids)],
        )
        return [name for (name,) in cursor.fetchall()]


def test_a_row_is_in_the_partition_of_its_month() -> None:
    partitions.ensure(TABLE, [JANUARY, DECEMBER, JANUARY])
    partitions.ensure(TABLE, [JANUARY])
    first, last = add(NEW_YEAR), add(NEW_YEAR - A_MILLISECOND)
    assert [partitions.month_of(id) for id in (first, last)] == [JANUARY, DECEMBER]
    assert tables_of(first, last) == [f"{TABLE}_2025_12", f"{TABLE}_2026_01"]


def test_a_row_of_another_month_is_refused() -> None:
    partitions.ensure(TABLE, [JANUARY])
    with pytest.raises(IntegrityError, match="no partition"):
        add(NEW_YEAR - A_MILLISECOND)


def test_months_that_are_over_are_dropped() -> None:
    partitions.ensure(TABLE, [DECEMBER, JANUARY, FEBRUARY])
    kept = add(NEW_YEAR)
    add(NEW_YEAR - A_MILLISECOND)
    assert partitions.drop_before(TABLE, NEW_YEAR - A_MILLISECOND) == []
    assert partitions.drop_before(TABLE, NEW_YEAR) == [f"{TABLE}_2025_12"]
    assert partitions.drop_before(TABLE, NEW_YEAR) == []
    assert tables_of(kept) == [f"{TABLE}_2026_01"]


def test_a_reader_delays_no_new_partition(reader: psycopg.Connection[tuple[str]]) -> None:
    partitions.ensure(TABLE, [JANUARY])
    add(NEW_YEAR)


def test_processes_that_create_the_same_month_at_once() -> None:
    def create(_: int) -> None:
        run_and_let_go(partitions.ensure, TABLE, [DECEMBER, JANUARY])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(create, range(3)))
    assert tables_of(add(NEW_YEAR)) == [f"{TABLE}_2026_01"]


def test_dropping_goes_on_after_a_stop_halfway(reader: psycopg.Connection[tuple[str]]) -> None:
    partitions.ensure(TABLE, [DECEMBER, JANUARY])
    reader.execute("SELECT id FROM partitions_tested")
    with connection.cursor() as cursor:
        # Detached concurrently, it waits for the reader.
        cursor.execute("SET statement_timeout = '300ms'")
        with pytest.raises(OperationalError):
            partitions.drop_before(TABLE, NEW_YEAR)
        cursor.execute("RESET statement_timeout")
        reader.rollback()
        assert partitions.drop_before(TABLE, NEW_YEAR) == [f"{TABLE}_2025_12"]
        cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {TABLE}_2026_01 CONCURRENTLY")
    assert partitions.drop_before(TABLE, NEW_YEAR + timedelta(days=31)) == [f"{TABLE}_2026_01"]


def test_a_month_that_was_detached_is_created_anew() -> None:
    partitions.ensure(TABLE, [JANUARY])
    add(NEW_YEAR)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {TABLE}_2026_01")
    partitions.ensure(TABLE, [JANUARY])
    assert tables_of(add(NEW_YEAR)) == [f"{TABLE}_2026_01"]
