from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import psycopg
import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import AsyncClient, Client

from core import connections, health
from core.connections import Patience
from core.database.base import Pool
from core.health import require_migrations
from core.version import VERSION


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    require_migrations.cache_clear()
    yield
    require_migrations.cache_clear()


@pytest.fixture
def no_connection(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """All of the pool's are taken, and whoever has no less patience waits for one."""
    monkeypatch.setattr(connections, "_of_process", Patience(connection=600, answer=600))
    connection.close()
    pool = connection.pool
    pool.open()  # an earlier test may have closed it
    taken = [pool.getconn() for _ in range(pool.max_size)]
    yield pool
    for one in taken:
        pool.putconn(one)
    assert Client().get("/readyz").status_code == 200


def test_livez_asks_nobody():
    response = Client().get("/livez")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.django_db
def test_readyz():
    response = Client().get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": VERSION}


@pytest.mark.django_db
def test_a_process_that_is_about_to_stop_is_alive_and_not_ready(monkeypatch):
    monkeypatch.setattr(health, "_drain", Event())
    health.stop_being_ready()
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "draining", "version": VERSION}
    assert Client().get("/livez").status_code == 200


async def test_an_asynchronous_server_answers_too():
    response = await AsyncClient().get("/livez")
    assert response.json() == {"status": "ok"}


@pytest.mark.django_db
def test_a_missing_migration_is_counted():
    (latest,) = MigrationLoader(connection).graph.leaf_nodes("accounts")
    MigrationRecorder(connection).record_unapplied(*latest)
    response = Client().get("/readyz")
    assert response.status_code == 503
    body = response.json()
    assert body == {"status": "migrations_missing", "count": 1, "version": VERSION}


@pytest.mark.django_db
def test_what_is_complete_is_not_counted_again(django_assert_num_queries):
    Client().get("/readyz")
    with django_assert_num_queries(1):
        Client().get("/readyz")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_went_away():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with psycopg.connect(connection.connection.info.dsn) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "database_unavailable", "version": VERSION}
    connection.close()  # as the end of a request does, outside of tests
    assert Client().get("/readyz").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_pool_that_has_no_connection_left(no_connection: Pool) -> None:
    """It comes back after the answer: whoever waited for it would not give one."""
    response = Client().get("/readyz")
    assert response.json() == {"status": "database_unavailable", "version": VERSION}


@pytest.mark.django_db(transaction=True)
def test_of_probes_that_come_at_once_one_asks(no_connection: Pool) -> None:
    """So none of them waits for its turn."""
    queued = no_connection.get_stats().get("requests_queued", 0)
    together = Barrier(5)

    def ask(_: int) -> int:
        together.wait(10)
        return Client().get("/readyz").status_code

    with ThreadPoolExecutor(together.parties) as threads:
        assert list(threads.map(ask, range(together.parties))) == [503] * together.parties
    asked = no_connection.get_stats()["requests_queued"] - queued
    assert asked < together.parties


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_knows_neither_our_name_nor_tls(path, settings):
    settings.SECURE_SSL_REDIRECT = True
    response = Client().get(path, headers={"host": "10.1.2.3:8000"})
    assert response.status_code == 200


def test_others_must_know_both(settings):
    settings.SECURE_SSL_REDIRECT = True
    assert Client().get("/api/account").status_code == 301
