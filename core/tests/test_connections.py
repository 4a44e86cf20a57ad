"""How long the database is waited for, on the tests' own."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from django.db import OperationalError, connection, connections, transaction

from core.connections import database_within

pytestmark = pytest.mark.django_db(transaction=True)


def query(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return str(cursor.fetchone()[0])


def cause_of(fails: Callable[[], object]) -> type[BaseException] | None:
    with pytest.raises(OperationalError) as caught:
        fails()
    return type(caught.value.__cause__)


def in_transaction(statement: str) -> None:
    with transaction.atomic():
        query(statement)


def test_a_command_may_take_its_time() -> None:
    with transaction.atomic():
        assert query("SHOW statement_timeout") == "0"
        assert query("SHOW idle_in_transaction_session_timeout") == "0"


def test_in_a_transaction_the_server_ends_what_takes_too_long() -> None:
    with database_within(0.3):
        assert (
            cause_of(lambda: in_transaction("SELECT pg_sleep(5)")) is psycopg.errors.QueryCanceled
        )


def test_a_limit_holds_for_its_transaction_alone() -> None:
    """Behind a PgBouncer, the next transaction on the same connection is somebody else's."""
    with database_within(5), transaction.atomic():
        assert query("SHOW statement_timeout").endswith("ms")
        assert query("SHOW idle_in_transaction_session_timeout") == "1min"
    with transaction.atomic():
        assert query("SHOW statement_timeout") == "0"
        assert query("SHOW idle_in_transaction_session_timeout") == "0"


def test_outside_of_one_we_do_and_the_server_stops_too() -> None:
    with database_within(0.3):
        assert cause_of(lambda: query("SELECT pg_sleep(60)")) is psycopg.OperationalError
    connection.close()
    assert query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'") == "0"


def test_all_waits_within_a_limit_are_added_up() -> None:
    with database_within(0.5):
        query("SELECT pg_sleep(0.3)")
        assert cause_of(lambda: in_transaction("SELECT pg_sleep(0.3)")) is not None


def test_the_narrower_of_two_limits_holds() -> None:
    with database_within(0.1), database_within(60):
        cause_of(lambda: in_transaction("SELECT pg_sleep(5)"))


def test_a_connection_beside_the_pool_is_not_waited_for_either() -> None:
    known = connection.settings_dict
    options = {name: value for name, value in known["OPTIONS"].items() if name != "pool"}
    beside = type(connections["default"])({**known, "OPTIONS": options}, "beside")
    try:
        with beside.cursor() as cursor, database_within(0.3), pytest.raises(OperationalError):
            cursor.execute("SELECT pg_sleep(5)")
    finally:
        beside.close()
