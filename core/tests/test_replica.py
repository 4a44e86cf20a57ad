"""Lists from a replica: as fresh as from the primary, and there without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import requests
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.test import Client

from accounts.models import Account, ApiKey, digest_of, new_api_key
from core import replica
from core.replica import REPLICA, listed
from core.tests.long import only_in_all
from core.tests.waiting import until
from core.tests.web import web_process
from devtools.browsing.authenticator import app_of
from devtools.tests.own_postgres import OwnPostgres, own_postgres


@pytest.fixture(scope="module")
def is_known(django_db_setup: None) -> Iterator[None]:
    """There is a replica: Django looks for it before a test's own fixtures."""
    connections.settings[REPLICA] = _of_primary()
    yield
    del connections.settings[REPLICA]


@pytest.fixture
def settings_of_replica(is_known: None) -> Iterator[dict[str, Any]]:
    """Settings of a replica that was never asked, which is the primary under another name."""
    replica._left_alone_until = 0.0
    _forget_connections()
    connections.settings[REPLICA] = settings = _of_primary()
    yield settings
    _forget_connections()


def _forget_connections() -> None:
    """Have the next query connect as the settings then say."""
    connections[REPLICA].close()
    connections[REPLICA].close_pool()
    del connections[REPLICA]


def _of_primary() -> dict[str, Any]:
    known = connection.settings_dict
    return {
        **known,
        "OPTIONS": dict(known["OPTIONS"]),
        "TEST": {**known["TEST"], "MIRROR": DEFAULT_DB_ALIAS},
    }


@pytest.mark.django_db(databases=[DEFAULT_DB_ALIAS, REPLICA], transaction=True)
class TestAnother:
    def test_a_server_that_replays_nothing_is_not_read(
        self, settings_of_replica: dict[str, Any], logged: Callable[[], str]
    ) -> None:
        """It may have become a primary, whose rows are no longer ours."""
        assert listed(str) == DEFAULT_DB_ALIAS
        assert "it lags" in logged()

    def test_one_that_is_down_costs_one_list_a_moment(
        self, settings_of_replica: dict[str, Any], logged: Callable[[], str]
    ) -> None:
        known = settings_of_replica["OPTIONS"]
        options = {name: known[name] for name in ("pool", "connect_timeout")}
        settings_of_replica |= {"HOST": "127.0.0.1", "PORT": "1", "OPTIONS": options}
        assert [listed(str) for _ in range(3)] == [DEFAULT_DB_ALIAS] * 3
        assert logged().count("replica_left_alone") == 1
        assert "it lags" not in logged()


@pytest.mark.django_db
def test_without_one_the_primary_is_read() -> None:
    assert listed(str) == DEFAULT_DB_ALIAS


@dataclass
class World:
    url: str
    primary: OwnPostgres
    replica: OwnPostgres
    key: str
    cookie: str

    def get(self, path: str, **query: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}", "Cookie": self.cookie}
        response = requests.get(f"{self.url}{path}", query, headers=headers, timeout=60)
        assert response.status_code == 200, response.text
        return response

    def create_key(self, label: str) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        body = {"label": label}
        response = requests.post(f"{self.url}/api/api-keys", json=body, headers=headers, timeout=60)
        assert response.status_code == 201, response.text

    def events(self) -> str:
        return self.get("/api/audit-events", limit="100").text

    def queries(self) -> int:
        """Return how many transactions the replica has had."""
        with psycopg.connect(self.replica.url, autocommit=True) as session:
            row = session.execute("SELECT sum(xact_commit) FROM pg_stat_database").fetchone()
            return int(row[0]) if row else 0

    def is_read(self) -> None:
        """Request a list until the replica is read for it."""
        before = self.queries()
        asyncio.run(until(lambda: self.events() and self.queries() > before + 1))


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    with django_db_blocker.unblock(), own_postgres() as primary:
        account = Account.objects.create_superuser(
            "eve@example.org", "a long walk", status="ACTIVE"
        )
        app_of(account)
        key, client = new_api_key(), Client()
        ApiKey.objects.create(account=account, label="k", prefix=key[:7], digest=digest_of(key))
        client.force_login(account)
        cookie = f"sessionid={client.cookies['sessionid'].value}"
        primary.copy_tables(with_rows=True)
        Account.objects.all().delete()
        urls = {"DATABASE_URL": primary.url}
        with (
            primary.replica() as copy,
            web_process(workers=1, DATABASE_REPLICA_URL=copy.url, **urls) as web,
        ):
            yield World(web.url, primary, copy, key, cookie)


@pytest.mark.django_db(transaction=True)
@only_in_all("two servers and a web process")
class TestStreaming:
    def test_a_list_has_what_was_just_written(self, world: World) -> None:
        world.is_read()  # another test may have stopped the replica
        before = world.queries()
        for number in range(20):
            world.create_key(f"key-{number}")
            assert f"key-{number}" in world.events()
        for path in ("/dashboard/calls", "/dashboard/calls.csv", "/api/calls", "/api/usage"):
            world.get(path)
        page = world.get("/admin/telephony/call/?outcome=failed")
        assert page.url.endswith("failed")
        asyncio.run(until(lambda: world.queries() - before >= 25))  # PostgreSQL counts a bit later

    def test_one_that_lags_is_not_read(self, world: World) -> None:
        with psycopg.connect(world.replica.url, autocommit=True) as session:
            session.execute("SELECT pg_wal_replay_pause()")
            try:
                world.create_key("while it lags")
                assert "while it lags" in world.events()
            finally:
                session.execute("SELECT pg_wal_replay_resume()")

    def test_lists_outlive_it(self, world: World) -> None:
        world.replica.crash()
        try:
            world.create_key("while it is down")
            assert "while it is down" in world.events()
            assert world.get("/dashboard/calls").ok
        finally:
            world.replica.start()
        assert "while it is down" in world.events()
