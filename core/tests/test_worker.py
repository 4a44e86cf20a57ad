"""The worker and a real queue, with a test's own tasks in this process, or in its own process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
import structlog
from django.db import connection
from procrastinate import App
from procrastinate.contrib.django import app as the_app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import ConnectorException
from structlog.contextvars import bind_contextvars

from accounts.models import AttemptCount
from core.connections import run_and_let_go
from core.queue import lanes, worker
from core.queue.worker import Worker
from core.tests.waiting import until
from core.tests.web import ROOT, database_url
from devtools.tests.own_postgres import own_postgres

pytestmark = pytest.mark.django_db(transaction=True)

ONE_EACH = dict.fromkeys(lanes.PLACES, 1)
_WITHIN_S = 30


@pytest.fixture(autouse=True)
def no_jobs(transactional_db: None) -> None:
    _sql(
        "truncate procrastinate_jobs, procrastinate_workers, procrastinate_periodic_defers cascade"
    )


def _sql(statement: str, *values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


async def sql(statement: str, *values: Any) -> list[Any]:
    return await asyncio.to_thread(run_and_let_go, _sql, statement, *values)


async def queue(task: str, lane: str, **more: Any) -> int:
    fields = {"task_name": task, "queue_name": lane} | more
    names, marks = ", ".join(fields), ", ".join(["%s"] * len(fields))
    statement = f"insert into procrastinate_jobs ({names}) values ({marks}) returning id"  # noqa: S608
    return int((await sql(statement, *fields.values()))[0][0])


async def status_of(job_id: int) -> str:
    return str((await sql("select status from procrastinate_jobs where id = %s", job_id))[0][0])


async def until_it_is(job_id: int, status: str) -> None:
    async def is_it() -> bool:
        return await status_of(job_id) == status

    await until(is_it)


async def until_gone(query: str, *values: Any) -> None:
    """Wait until no row is left."""

    async def is_gone() -> bool:
        return not await sql(query, *values)

    await until(is_gone)


@pytest.fixture
def app() -> App:
    """An app for the test's own tasks."""
    return App(connector=DjangoConnector())


@asynccontextmanager
async def working(
    app: App, places: dict[str, int] = ONE_EACH, *, grace: float = _WITHIN_S
) -> AsyncIterator[Worker]:
    """Run a worker, and stop it on exit."""
    working = Worker(app, places, grace=grace)
    running = asyncio.ensure_future(working.run())
    try:
        yield working
    finally:
        working.stop()
        await running


class Gate:
    """A gate that blocks jobs until it opens, and counts them."""

    def __init__(self) -> None:
        self.opens = threading.Event()
        self.inside = 0

    def pass_through(self) -> None:
        self.inside += 1
        assert self.opens.wait(_WITHIN_S)

    async def until_inside(self, count: int) -> None:
        await until(lambda: self.inside >= count)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opens.set()


# Jobs


async def test_coroutines_and_plain_functions_run_as_jobs(app: App) -> None:
    done: list[str] = []

    @app.task(name="slow", queue=lanes.MONEY)
    def slow(name: str) -> None:
        done.append(name)

    @app.task(name="quick", queue=lanes.CALLBACKS)
    async def quick() -> None:
        done.append("quick")

    first = await queue("slow", lanes.MONEY, args='{"name": "slow"}')
    async with working(app):
        await until_it_is(first, "succeeded")
        await queue("quick", lanes.CALLBACKS)
        await until(lambda: "quick" in done)
    assert done == ["slow", "quick"]
    assert await sql("select count(*) from procrastinate_jobs where status <> 'succeeded'") == [
        (0,)
    ]
    assert await sql("select count(*) from procrastinate_workers") == [(0,)]


async def test_a_failing_job_and_an_unknown_one_are_marked_failed(app: App) -> None:
    @app.task(name="fails", queue=lanes.MONEY)
    def fails() -> None:
        raise LookupError

    failing, unknown = await queue("fails", lanes.MONEY), await queue("unknown", lanes.MONEY)
    async with working(app):
        await until_it_is(failing, "failed")
        await until_it_is(unknown, "failed")


async def test_log_lines_of_a_job_name_it_and_what_it_is_about(
    app: App, log_lines: Callable[..., list[dict[str, Any]]]
) -> None:
    log = structlog.get_logger("test")

    @app.task(name="in a thread", queue=lanes.CALLS)
    def in_a_thread(call_id: str) -> None:
        bind_contextvars(call_sid="CA1")
        log.info("done")

    @app.task(name="in the loop", queue=lanes.CALLS)
    async def in_the_loop(**_: str) -> None:
        log.info("done")
        raise LookupError

    first = await queue("in a thread", lanes.CALLS, args='{"call_id": "c1"}')
    second = await queue("in the loop", lanes.CALLS, args='{"delivery_id": "d1", "kind": "x"}')
    async with working(app, {lanes.CALLS: 1}):
        await until_it_is(first, "succeeded")
        await until_it_is(second, "failed")
    names = ("event", "task", "job_id", "call_id", "call_sid", "delivery_id", "kind")
    assert [tuple(line.get(name) for name in names) for line in log_lines()] == [
        ("done", "in a thread", first, "c1", "CA1", None, None),
        ("done", "in the loop", second, None, None, "d1", None),
        ("job_failed", "in the loop", second, None, None, "d1", None),
    ]


async def test_a_job_queued_under_an_old_name_of_its_task_runs(app: App) -> None:
    done: list[int] = []

    @app.task(name="new.count", queue=lanes.MONEY, aliases=["old.count"])
    def count(number: int) -> None:
        done.append(number)

    job = await queue("old.count", "an old lane", args='{"number": 1}')
    async with working(app):
        await until_it_is(job, "succeeded")
    assert done == [1]


@pytest.mark.parametrize(
    "name",
    [
        "config.jobs.remove_old_jobs",
        *(
            f"billing.metering_tasks.{name}"
            for name in (
                "compare_meter",
                "compare_page",
                "meter_usage",
                "read_error_report",
                "search_usage",
            )
        ),
    ],
)
def test_old_names_of_tasks_are_aliases(name: str) -> None:
    the_app.perform_import_paths()
    task = the_app.tasks[name]
    assert name in task.aliases
    assert task.name.rpartition(".")[2] == name.rpartition(".")[2]


async def test_a_job_scheduled_for_later_does_not_run_before(app: App) -> None:
    done: list[int] = []

    @app.task(name="count", queue=lanes.MONEY)
    def count() -> None:
        done.append(1)

    later = await queue("count", lanes.MONEY, scheduled_at="2999-01-01")
    now = await queue("count", lanes.MONEY)
    past = await queue("count", lanes.MONEY, scheduled_at="2000-01-01")
    async with working(app):
        await until_it_is(now, "succeeded")
        await until_it_is(past, "succeeded")
        assert await status_of(later) == "todo"
    assert len(done) == 2


async def test_jobs_with_the_same_lock_run_one_at_a_time(app: App) -> None:
    running, most = 0, 0

    @app.task(name="alone", queue=lanes.CALLBACKS)
    async def alone() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    for _ in range(5):
        await queue("alone", lanes.CALLBACKS, lock="the lock")
    async with working(app, {lanes.CALLBACKS: 5}):
        await until_gone("select 1 from procrastinate_jobs")
    assert most == 1


# Lanes


def test_every_task_has_a_lane() -> None:
    the_app.perform_import_paths()
    ours = [task for name, task in the_app.tasks.items() if "procrastinate." not in name]
    assert len(ours) > 20
    assert [task.name for task in ours if task.queue not in lanes.PLACES] == []


@pytest.mark.parametrize("full", lanes.PLACES)
async def test_a_full_lane_takes_no_place_from_another(app: App, gate: Gate, full: str) -> None:
    app.task(gate.pass_through, name="hangs", queue=full)
    app.task(lambda: None, name="nothing", queue=full)
    for _ in range(2 * lanes.PLACES[full]):
        await queue("hangs", full)
    async with working(app, dict(lanes.PLACES)):
        await gate.until_inside(lanes.PLACES[full])
        others = [await queue("nothing", lane) for lane in lanes.PLACES if lane != full]
        for other in others:
            not_done = "select 1 from procrastinate_jobs where id = %s and status <> 'succeeded'"
            await until_gone(not_done, other)
        assert gate.inside == lanes.PLACES[full]
        gate.opens.set()


async def test_jobs_queued_by_an_earlier_release_move_to_their_lane(app: App) -> None:
    app.task(lambda: None, name="nothing", queue=lanes.MONEY)
    job = await queue("nothing", "billing")
    async with working(app):
        await until_it_is(job, "succeeded")


# Outages of the database


async def _cut(*pids: int) -> None:
    await sql("select pg_terminate_backend(pid, 10000) from unnest(%s) as pid", list(pids))


def _connections_of(worker: Worker) -> list[int]:
    assert worker._queue._connection
    return [worker._queue._connection.info.backend_pid]


async def test_a_job_that_loses_its_connection_is_retried(app: App, gate: Gate) -> None:
    pids: list[int] = []

    @app.task(name="count", queue=lanes.MONEY)
    def count() -> None:
        AttemptCount.objects.count()
        pids.append(connection.connection.info.backend_pid)
        if len(pids) == 1:
            gate.pass_through()
            AttemptCount.objects.count()

    job = await queue("count", lanes.MONEY)
    async with working(app):
        await gate.until_inside(1)
        await _cut(pids[0])
        gate.opens.set()
        await until_it_is(job, "succeeded")
    assert len(pids) == 2


async def test_a_job_that_ends_during_an_outage_is_recorded_after_it(app: App) -> None:
    waits, goes_on = asyncio.Event(), asyncio.Event()

    @app.task(name="wait", queue=lanes.MONEY)
    async def wait() -> None:
        waits.set()
        await goes_on.wait()

    job = await queue("wait", lanes.MONEY)
    async with working(app) as worker:
        await waits.wait()
        with database_away() as cut:
            cut(_connections_of(worker))
            goes_on.set()
            await until(lambda: worker._away_since is not None)
        await until_it_is(job, "succeeded")
    assert await sql("select attempts from procrastinate_jobs where id = %s", job) == [(1,)]


@contextmanager
def database_away() -> Iterator[Callable[[list[int]], Any]]:
    """Refuse new connections to the tests' database; yield a function that ends existing ones."""
    name = connection.settings_dict["NAME"]
    url = database_url().replace(f"/{name}?", "/postgres?")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cut = "SELECT pg_terminate_backend(pid, 10000) FROM unnest(%s) AS pid"
        try:
            yield lambda pids: other.execute(cut, [pids])
        finally:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def test_jobs_taken_in_a_lost_response_are_requeued(app: App) -> None:
    app.task(lambda: None, name="nothing", queue=lanes.MONEY)
    async with working(app) as worker:
        await until_it_is(await queue("nothing", lanes.MONEY), "succeeded")
        lost = await queue("nothing", lanes.MONEY, status="doing", worker_id=worker._id)
        await _cut(*_connections_of(worker))
        await until_it_is(lost, "succeeded")


# Other workers


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEAT_S", 0.05)
    monkeypatch.setattr(worker, "SILENT_AFTER_S", 0.5)


async def _dead_worker() -> int:
    inserted = await sql(
        "insert into procrastinate_workers (last_heartbeat) values (now() - interval '1 minute')"
        " returning id"
    )
    return int(inserted[0][0])


async def test_the_jobs_of_a_dead_worker_are_requeued(app: App, impatient: None) -> None:
    """A job whose twin is already queued is aborted, and does not affect the others."""
    app.task(lambda: None, name="nothing", queue=lanes.MONEY)
    dead = await _dead_worker()
    begun = {"status": "doing", "worker_id": dead}
    twin = await queue("nothing", lanes.MONEY, queueing_lock="a", **begun)
    await queue("nothing", lanes.MONEY, queueing_lock="a", scheduled_at="2999-01-01")
    other = await queue("nothing", lanes.MONEY, queueing_lock="b", **begun)
    nobodys = await queue("nothing", lanes.MONEY, status="doing")
    async with working(app):
        for job in (other, nobodys):
            await until_it_is(job, "succeeded")
        await until_it_is(twin, "aborted")
        await until_gone("select 1 from procrastinate_workers where id = %s", dead)


@pytest.mark.parametrize("is_about_to_stop", [False, True])
async def test_the_jobs_of_a_live_worker_are_not_requeued(
    app: App, impatient: None, gate: Gate, is_about_to_stop: bool
) -> None:
    app.task(gate.pass_through, name="hangs", queue=lanes.MONEY)
    app.task(lambda: None, name="nothing", queue=lanes.MONEY)
    job = await queue("hangs", lanes.MONEY)
    async with working(app) as living:
        await gate.until_inside(1)
        if is_about_to_stop:
            living.stop()
        async with working(app):
            # A worker that has taken over a dead worker's job has checked all the others.
            dead = await _dead_worker()
            deads = await queue("nothing", lanes.MONEY, status="doing", worker_id=dead)
            await until_it_is(deads, "succeeded")
            assert gate.inside == 1
        gate.opens.set()
        await until_it_is(job, "succeeded")


async def test_a_worker_taken_for_dead_registers_again(app: App, impatient: None) -> None:
    app.task(lambda: None, name="nothing", queue=lanes.MONEY)
    async with working(app) as worker:
        await until_it_is(await queue("nothing", lanes.MONEY), "succeeded")
        before = worker._id
        await sql("delete from procrastinate_workers")
        await until(lambda: worker._id != before)
        await until_it_is(await queue("nothing", lanes.MONEY), "succeeded")


def test_a_dead_workers_jobs_are_requeued_within_30_seconds() -> None:
    """The sum of the silence, the interval of heartbeats, and that of polling."""
    assert worker.SILENT_AFTER_S + worker.BEAT_S + worker.POLL_S < 30
    assert 2 * worker.BEAT_S < worker.SILENT_AFTER_S, "a late heartbeat does not count as silence"


# Stopping


async def test_running_jobs_may_finish(app: App) -> None:
    waits, goes_on = asyncio.Event(), asyncio.Event()

    @app.task(name="wait", queue=lanes.MONEY)
    async def wait() -> None:
        waits.set()
        await goes_on.wait()

    job, next_job = await queue("wait", lanes.MONEY), await queue("wait", lanes.MONEY)
    async with working(app):
        await waits.wait()
        asyncio.get_running_loop().call_later(0.1, goes_on.set)
    assert (await status_of(job), await status_of(next_job)) == ("succeeded", "todo")


@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_jobs_that_do_not_end_are_requeued(app: App, gate: Gate, is_coroutine: bool) -> None:
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    app.task(waits if is_coroutine else gate.pass_through, name="hangs", queue=lanes.MONEY)
    job = await queue("hangs", lanes.MONEY)
    async with working(app) as worker:
        await (begun.wait() if is_coroutine else gate.until_inside(1))
        worker.stop()
        worker.stop()  # skips the grace period
    assert await status_of(job) == "todo"
    assert worker.leaves_threads is not is_coroutine


async def test_an_error_that_is_no_outage_stops_the_worker(app: App) -> None:
    """Its process then exits with a status other than 0."""
    await sql("alter function procrastinate_register_worker_v1 rename to not_there")
    try:
        with pytest.raises(ConnectorException):
            await Worker(app, ONE_EACH, grace=0).run()
    finally:
        await sql("alter function not_there rename to procrastinate_register_worker_v1")


# As a process


@contextmanager
def worker_process(url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker", *options],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DEBUG": "1",
            "SECRET_KEY": "x" * 50,
            "DATABASE_URL": url,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _until(condition: Callable[[], Any]) -> None:
    done = threading.Event()
    deadline = threading.Timer(_WITHIN_S, done.set)
    deadline.start()
    while not condition():
        assert not done.wait(0.05), "The condition did not become true in time."
    deadline.cancel()


def _forget_attempts(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "insert into procrastinate_jobs (task_name, queue_name, args)"
            " values ('accounts.tasks.forget_attempts', 'upkeep', '{\"timestamp\": 1}')"
            " returning id"
        ).fetchone()
    assert row
    return int(row[0])


def _has_succeeded(url: str, job_id: int) -> bool:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select status from procrastinate_jobs where id = %s", [job_id]
        ).fetchone()
    return row == ("succeeded",)


def test_the_worker_survives_a_restart_of_the_database() -> None:
    with own_postgres() as postgres:
        postgres.copy_tables()
        with worker_process(postgres.url) as process:
            before = _forget_attempts(postgres.url)
            _until(lambda: _has_succeeded(postgres.url, before))
            postgres.stop()
            assert process.stderr
            while "worker_waits_for_database" not in process.stderr.readline():
                assert process.poll() is None
            postgres.start()
            after = _forget_attempts(postgres.url)
            _until(lambda: _has_succeeded(postgres.url, after))
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=_WITHIN_S)
            assert process.returncode == 0
            assert "database_is_back" in errors


def test_an_unknown_lane_is_refused() -> None:
    with worker_process(database_url(), "--lanes=calls,monee") as process:
        _, errors = process.communicate(timeout=_WITHIN_S)
        assert process.returncode == 1
        assert "There is no queue 'monee'. The queues are calls, money, callbacks" in errors
