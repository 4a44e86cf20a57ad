"""The responses of real processes while PostgreSQL is unavailable, hangs or comes back."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.test import Client
from psycopg_pool import PoolTimeout

from accounts.models import Account, ApiKey, digest_of, new_api_key
from core import connections
from core.connections import Patience, database_within
from core.database.base import Pool
from core.tests.outages import ANSWERED_WITHIN_S, Answer, ask, backend
from core.tests.waiting import until
from core.tests.web import web_process
from devtools.tests.own_postgres import OwnPostgres, own_postgres
from telephony.models import PhoneNumber

NUMBER = "+15551230000"
SORRY = "We are sorry"
BUSY = {"reject": True, "reason": "busy"}
# Ends all connections except its own, and waits until they have ended.
END_ALL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
# The server keeps running queries that no client waits for any more.
END_SLEEP = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
)
# If each waited two seconds for one of eight threads, the last would get no response in time.
MANY = 128

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class World:
    postgres: OwnPostgres
    web: str
    engine: str
    key: str
    cookie: str
    sids: Iterator[int] = field(default_factory=itertools.count)
    #: Runs in the customer's backend while it handles onCallStart.
    meanwhile: Callable[[], None] = lambda: None

    def on_call_start(self) -> Mapping[str, Any]:
        self.meanwhile()
        return BUSY

    def ring(self) -> dict[str, str]:
        return {
            "CallSid": f"CA{next(self.sids):032x}",
            "AccountSid": f"AC{0:032x}",
            "From": "+15550001111",
            "To": NUMBER,
        }

    def voice(self, ring: Mapping[str, str]) -> Answer:
        return ask(f"{self.engine}/voice", form=ring, headers={"X-Twilio-Signature": "x"})

    def api(self, server: str) -> Answer:
        return ask(f"{server}/api/account", headers={"Authorization": f"Bearer {self.key}"})

    def page(self, server: str, path: str) -> Answer:
        return ask(f"{server}{path}", headers={"Accept": "text/html", "Cookie": self.cookie})

    def everything(self) -> dict[str, Answer]:
        """Send one request of each kind to both processes, all at once."""
        asking = {"voice": partial(self.voice, self.ring())}
        signed = {"Stripe-Signature": "t=1,v1=2"}
        for name, server in {"web": self.web, "engine": self.engine}.items():
            asking |= {
                f"{name} api": partial(self.api, server),
                f"{name} dashboard": partial(self.page, server, "/dashboard"),
                f"{name} admin": partial(self.page, server, "/admin/"),
                f"{name} stripe": partial(
                    ask, f"{server}/webhooks/stripe", form={}, headers=signed
                ),
                f"{name} readyz": partial(ask, f"{server}/readyz"),
                f"{name} livez": partial(ask, f"{server}/livez"),
            }
        with ThreadPoolExecutor(len(asking)) as threads:
            answers = {name: threads.submit(one) for name, one in asking.items()}
            return {name: answer.result() for name, answer in answers.items()}

    def is_well(self) -> bool:
        answers = self.everything().values()
        return not any(answer.status >= 500 or SORRY in answer.text for answer in answers)

    def becomes_well(self) -> None:
        """Send requests of all kinds until none fails."""
        asyncio.run(until(self.is_well))


@pytest.fixture(scope="module")
def running(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """Both processes, and a customer with a number and a backend, on their own server."""
    started: list[World] = []
    with (
        own_postgres() as postgres,
        backend(lambda: started[0].on_call_start()) as on_call_start_url,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        media_port = str(free.getsockname()[1])
        free.close()
        with django_db_blocker.unblock():
            key, cookie = _customer(on_call_start_url)
            postgres.copy_tables(with_rows=True)
            call_command("flush", verbosity=0, interactive=False)
            on_it = {"workers": 1, "DATABASE_URL": postgres.url}
            with (
                web_process(**on_it) as web,
                web_process(**on_it, PROCESS="engine", MEDIA_PORT=media_port) as engine,
            ):
                started.append(World(postgres, web.url, engine.url, key, cookie))
                yield started[0]


def _customer(on_call_start_url: str) -> tuple[str, str]:
    """Create a customer; return an API key and a session cookie."""
    account = Account.objects.create_user("eve@example.org", "a long walk", status="ACTIVE")
    key, client = new_api_key(), Client()
    ApiKey.objects.create(account=account, label="Default", prefix=key[:7], digest=digest_of(key))
    PhoneNumber.objects.create(
        account=account, phone_number=NUMBER, on_call_start_url=on_call_start_url
    )
    client.force_login(account)
    return key, f"sessionid={client.cookies['sessionid'].value}"


@pytest.fixture
def world(running: World) -> Iterator[World]:
    running.becomes_well()
    yield running
    running.meanwhile = lambda: None


def assert_all_say_that_it_is_an_outage(answers: Mapping[str, Answer]) -> None:
    voice = answers["voice"]
    assert voice.status == 200
    assert SORRY in voice.text
    assert voice.text.endswith("<Hangup /></Response>")
    for server in ("web", "engine"):
        ready, api = answers[f"{server} readyz"], answers[f"{server} api"]
        assert ready.status == 503
        assert ready.json()["status"] == "database_unavailable"
        assert answers[f"{server} livez"].status == 200
        assert api.json() == {
            "error": "Switchhook is temporarily unavailable. Try again in 5 seconds.",
            "code": "temporarily_unavailable",
            "requestId": api.headers["X-Request-Id"],
        }
        for kind in ("api", "dashboard", "admin", "stripe"):
            answer = answers[f"{server} {kind}"]
            assert answer.status == 503, kind
            assert answer.headers["Retry-After"] == "5", kind
        for kind in ("dashboard", "admin"):
            page = answers[f"{server} {kind}"].text
            assert "This page reloads automatically" in page
            assert "/static/outage.js" in page
            assert "Traceback" not in page


def test_a_server_that_refuses_connections_is_an_outage(world: World) -> None:
    world.postgres.crash()
    try:
        assert_all_say_that_it_is_an_outage(world.everything())
        # From now on, one request at a time tries to connect, and the others fail at once.
        with ThreadPoolExecutor(MANY) as threads:
            answers = list(threads.map(world.api, [world.web] * MANY))
        assert {answer.status for answer in answers} == {503}
    finally:
        world.postgres.start()
    world.becomes_well()


def test_a_server_that_hangs_is_an_outage(world: World) -> None:
    world.postgres.freeze()
    try:
        assert_all_say_that_it_is_an_outage(world.everything())
    finally:
        world.postgres.thaw()
    world.becomes_well()


@pytest.fixture
def pool(world: World) -> Iterator[Pool]:
    """A pool in this process, on the server that tests freeze."""
    kwargs = {"autocommit": True, "connect_timeout": 2}
    with Pool(
        conninfo=world.postgres.url, kwargs=kwargs, configure=lambda _: None, max_size=4
    ) as pool:
        yield pool


def sleep_in(pool: Pool, seconds: float) -> None:
    """Run a query that takes this long, with a limit of a minute."""
    with database_within(60), pool.connection() as connection:
        connection.execute("SELECT pg_sleep(%s)", [seconds])


def assert_a_hang_is_noticed(world: World, pool: Pool) -> None:
    """Freeze the server under queries whose own limit, a minute, does not end them first."""
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with (
        ThreadPoolExecutor(4) as threads,
        psycopg.connect(world.postgres.url, autocommit=True) as session,
    ):
        waiting = [threads.submit(sleep_in, pool, 60) for _ in range(3)]
        asyncio.run(until(lambda: session.execute(asleep).fetchone() == (3,)))
        world.postgres.freeze()
        try:
            for each in waiting:
                with pytest.raises(psycopg.OperationalError, match="does not respond"):
                    each.result(ANSWERED_WITHIN_S)
            with pytest.raises(PoolTimeout):
                threads.submit(sleep_in, pool, 0).result(ANSWERED_WITHIN_S)
        finally:
            world.postgres.thaw()
        session.execute(END_SLEEP)

    def works() -> bool:
        try:
            sleep_in(pool, 0)
        except psycopg.OperationalError:
            return False
        return True

    asyncio.run(until(works))


def test_queries_fail_as_soon_as_a_hang_is_detected(world: World, pool: Pool) -> None:
    assert_a_hang_is_noticed(world, pool)


def test_a_probe_that_gets_no_thread_is_retried(
    world: World, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading, "_start_new_thread", refuse)
        sleep_in(pool, 1)
    assert_a_hang_is_noticed(world, pool)


def test_a_request_outlasts_a_short_outage(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a PgBouncer restarts, the pool tries more often than a request gives up."""
    monkeypatch.setattr(connections, "_of_process", Patience(connection=10, answer=10))
    (real,) = world.postgres.socket_folder.glob(".s.PGSQL.*[0-9]")
    own = tmp_path / real.name
    refusing = socket.socket(socket.AF_UNIX)
    refusing.bind(str(own))
    refusing.listen()
    refusing.settimeout(ANSWERED_WITHIN_S)
    with (
        refusing,
        small_pool(tmp_path, size=1, reconnect_timeout=2) as pool,
        ThreadPoolExecutor(1) as threads,
    ):
        request = threads.submit(pool.getconn)
        for _ in range(5):
            refusing.accept()[0].close()
        own.unlink()
        own.symlink_to(real)
        pool.putconn(request.result(ANSWERED_WITHIN_S))


def test_a_server_that_is_down_is_not_asked_for_each_connection(tmp_path: Path) -> None:
    """All eight together try seven times in a second. Each tries once more before it gives up."""
    with small_pool(tmp_path, size=8, reconnect_timeout=1) as pool:
        asyncio.run(until(lambda: pool.get_stats()["pool_size"] == 0))
        assert pool.get_stats()["connections_num"] < 7 + 8 + 8


def small_pool(folder: Path, *, size: int, reconnect_timeout: float) -> Pool:
    return Pool(
        conninfo=f"host={folder} user=postgres dbname=postgres",
        configure=lambda _: None,
        min_size=size,
        max_size=size,
        reconnect_timeout=reconnect_timeout,
    )


def test_a_command_waits_for_a_restart(world: World) -> None:
    """Requests don't wait for it: they fail at once."""
    own = world.postgres
    options: dict[str, Any] = {"reconnect_timeout": 0.5, "configure": lambda _: None}
    with Pool(conninfo=own.url, **options) as pool, ThreadPoolExecutor(1) as threads:
        pool.wait()
        own.crash()
        try:
            waiting = threads.submit(pool.getconn)
            asyncio.run(until(lambda: pool._is_away))
            with pytest.raises(PoolTimeout), database_within(0):
                pool.getconn()
        finally:
            own.start()
        pool.putconn(waiting.result(ANSWERED_WITHIN_S))
    world.becomes_well()


def test_if_a_connection_breaks_in_use_the_others_are_replaced(world: World, pool: Pool) -> None:
    """If a PgBouncer is killed, they break too, perhaps not in the same moment."""
    with psycopg.connect(world.postgres.url, autocommit=True) as session, database_within(10):
        used, other = pool.getconn(), pool.getconn()
        pool.putconn(other)
        session.execute("SELECT pg_terminate_backend(%s, 5000)", [used.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            used.execute("SELECT")
        pool.putconn(used)
        assert other.closed
    sleep_in(pool, 0)


def test_a_slow_query_on_a_working_server_is_not_a_hang(pool: Pool) -> None:
    """It may take longer than a hang, although the server sends nothing meanwhile."""
    sleep_in(pool, 3)
    sleep_in(pool, 0)


def test_connections_closed_by_the_server_cause_no_errors(world: World) -> None:
    """A restart closes them, as does a firewall that drops idle connections."""
    with psycopg.connect(world.postgres.url, autocommit=True) as session:
        session.execute(END_ALL)
    for name, answer in world.everything().items():
        assert answer.status < 500, name
        assert SORRY not in answer.text


def test_a_webhook_whose_connection_breaks_in_a_statement_runs_again(world: World) -> None:
    """PgBouncer or the server has restarted."""
    with (
        psycopg.connect(world.postgres.url) as session,
        psycopg.connect(world.postgres.url, autocommit=True) as other,
        ThreadPoolExecutor(1) as threads,
    ):
        session.execute("SELECT FROM accounts_account FOR UPDATE")
        answer = threads.submit(world.voice, world.ring())
        end_what_waits(other, "Lock")
        session.rollback()
        assert '<Reject reason="busy" />' in answer.result().text


def test_a_webhook_whose_connection_breaks_in_its_commit_runs_again(world: World) -> None:
    """The server has committed, but could not say so: it waits for a standby that there is not."""
    ring = world.ring()
    with (
        psycopg.connect(world.postgres.url, autocommit=True) as session,
        ThreadPoolExecutor(1) as threads,
    ):
        set_standbys(session, "nobody")
        try:
            answer = threads.submit(world.voice, ring)
            end_what_waits(session, "SyncRep")
        finally:
            set_standbys(session, "")
        assert '<Reject reason="busy" />' in answer.result().text
        received = "SELECT count(*) FROM telephony_call WHERE call_sid = %s"
        assert session.execute(received, [ring["CallSid"]]).fetchone() == (1,)


def set_standbys(session: psycopg.Connection[Any], names: str) -> None:
    """Set for which standbys a COMMIT waits."""
    session.execute("SET synchronous_commit = local")
    session.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    session.execute("SELECT pg_reload_conf()")
    show = "SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names'"
    asyncio.run(until(lambda: session.execute(show).fetchone() == (names,)))


def end_what_waits(session: psycopg.Connection[Any], for_what: str) -> None:
    """Break the connection of a call that waits for this type of event or this event."""
    end = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE %s IN (wait_event_type, wait_event)
        AND pid IN (SELECT pid FROM pg_locks WHERE relation = %s::regclass)"""
    parameters = [for_what, "accounts_account"]
    asyncio.run(until(lambda: session.execute(end, parameters).fetchone() == (True,)))


def test_a_hang_during_on_call_start_is_an_outage(world: World) -> None:
    ring = world.ring()
    world.meanwhile = world.postgres.freeze
    try:
        answer = world.voice(ring)
    finally:
        world.postgres.thaw()
    assert answer.status == 200
    assert SORRY in answer.text
    # The response to Twilio's retry is not that failure.
    world.meanwhile = lambda: None
    world.becomes_well()
    assert '<Reject reason="busy" />' in world.voice(ring).text


def test_a_lock_that_another_session_holds_is_an_outage(world: World) -> None:
    with psycopg.connect(world.postgres.url) as session:
        session.execute("SELECT FROM accounts_account FOR UPDATE")
        answer = world.voice(world.ring())
        assert SORRY in answer.text
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert session.execute(waiting).fetchall() == []
    assert '<Reject reason="busy" />' in world.voice(world.ring()).text


def test_connections_to_a_read_only_server_are_replaced(world: World) -> None:
    """Their server has become a standby, and new connections reach the new primary."""
    with psycopg.connect(world.postgres.url, autocommit=True) as session:
        session.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        session.execute(END_ALL)
        assert world.api(world.engine).status == 200
        session.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
    # What writes next notices it: this call, or the engine's heartbeat before it.
    world.voice(world.ring())
    assert '<Reject reason="busy" />' in world.voice(world.ring()).text
