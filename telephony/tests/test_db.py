import asyncio
import threading
from typing import Any

import pytest
from django.db import OperationalError, connection

from core.connections import database_within
from telephony import db
from telephony.db import in_background, in_database


@pytest.fixture
def pool(transactional_db: None) -> Any:
    """The pool, with all its connections in it."""
    connection.close()
    return connection.pool


def _backend_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _fail() -> None:
    _backend_pid()
    raise LookupError("no such thing")


def take_every_connection(pool: Any) -> None:
    """Fail unless all that the pool may hand out are free."""
    taken = []
    try:
        taken += (pool.getconn(timeout=15) for _ in range(pool.max_size))
    finally:
        for one in taken:
            pool.putconn(one)


async def test_it_works(pool: Any) -> None:
    assert await in_database(_backend_pid) > 0
    take_every_connection(pool)


async def test_an_error_is_passed_on_and_the_connection_given_back(pool: Any) -> None:
    with pytest.raises(LookupError):
        await in_database(_fail)
    take_every_connection(pool)


async def test_more_at_once_than_there_are_connections(pool: Any) -> None:
    pids = await asyncio.gather(*(in_database(_backend_pid) for _ in range(100)))
    assert len(set(pids)) <= pool.max_size
    take_every_connection(pool)


async def test_a_slow_look_up_in_the_loops_threads_holds_up_no_query(pool: Any) -> None:
    loop, release = asyncio.get_running_loop(), threading.Event()
    busy = [loop.run_in_executor(None, release.wait, 5) for _ in range(64)]
    try:
        assert await asyncio.wait_for(in_database(_backend_pid), 2) > 0
    finally:
        release.set()
        await asyncio.gather(*busy)


async def test_who_waits_is_not_held_up_by_what_nobody_waits_for(pool: Any) -> None:
    release = threading.Event()
    busy = [asyncio.create_task(in_background(release.wait, 10)) for _ in range(pool.max_size)]
    try:
        assert await asyncio.wait_for(in_database(_backend_pid), 2) > 0
    finally:
        release.set()
        await asyncio.gather(*busy)


async def test_who_has_no_time_left_does_not_wait_for_a_thread(pool: Any) -> None:
    release, ran = threading.Event(), threading.Event()
    busy = [asyncio.create_task(in_database(release.wait, 10)) for _ in range(pool.max_size)]
    try:
        with database_within(0.1), pytest.raises(OperationalError):
            await asyncio.wait_for(in_database(ran.set), 2)
    finally:
        release.set()
        await asyncio.gather(*busy)
    await in_database(_backend_pid)
    assert not ran.is_set()


async def test_what_a_benchmark_answers_asks_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_in_place_of", None)
    db.answer_without_database({_backend_pid: lambda: -1})
    assert await in_database(_backend_pid) == -1
    with pytest.raises(KeyError):
        await in_database(_fail)
