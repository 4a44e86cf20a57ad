"""Time limits on waiting for the database, against the tests' own server."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from django.db import OperationalError, connection, connections, transaction

from core.connections import database_within
from core.outages import NoResponse

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def connected(transactional_db: None) -> None:
    """Whatever a test limits, it isn't the time that a new connection takes."""
    connection.close()
    connection.ensure_connection()


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


def test_a_command_has_no_time_limit() -> None:
    with transaction.atomic():
        assert query("SHOW statement_timeout") == "0"
        assert query("SHOW idle_in_transaction_session_timeout") == "0"


def test_in_a_transaction_the_server_cancels_a_slow_query() -> None:
    with database_within(0.3):
        assert (
            cause_of(lambda: in_transaction("SELECT pg_sleep(5)")) is psycopg.errors.QueryCanceled
        )


def test_a_limit_applies_only_to_its_transaction() -> None:
    """Behind a PgBouncer, the next transaction on the connection may be another client's."""
    with database_within(5), transaction.atomic():
        assert query("SHOW statement_timeout").endswith("ms")
        assert query("SHOW idle_in_transaction_session_timeout") == "1min"
    with transaction.atomic():
        assert query("SHOW statement_timeout") == "0"
        assert query("SHOW idle_in_transaction_session_timeout") == "0"


def test_outside_a_transaction_the_client_gives_up_and_cancels_the_query() -> None:
    with database_within(0.3):
        assert cause_of(lambda: query("SELECT pg_sleep(60)")) is NoResponse
    connection.close()
    assert query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'") == "0"


def test_a_limit_applies_to_the_total_of_all_waits() -> None:
    with database_within(0.5):
        query("SELECT pg_sleep(0.3)")
        assert cause_of(lambda: in_transaction("SELECT pg_sleep(0.3)")) is not None


def test_the_stricter_of_two_nested_limits_applies() -> None:
    with database_within(0.1), database_within(60):
        cause_of(lambda: in_transaction("SELECT pg_sleep(5)"))


def test_a_connection_outside_the_pool_has_the_limit_too() -> None:
    known = connection.settings_dict
    options = {name: value for name, value in known["OPTIONS"].items() if name != "pool"}
    outside = type(connections["default"])({**known, "OPTIONS": options}, "outside")
    try:
        with outside.cursor() as cursor, database_within(0.3), pytest.raises(OperationalError):
            cursor.execute("SELECT pg_sleep(5)")
    finally:
        outside.close()
