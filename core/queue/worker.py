"""The worker: it takes jobs from the queue and does them, whatever becomes of the database.

Procrastinate keeps the queue; its own worker ends when the database is restarted, and has one lot
of places for all jobs. This one waits until the database is back, and has places for each lane
(``core.queue.lanes``). It takes as many jobs in one statement as it has places free, and writes
down in one statement which of them have ended.

A job may be done twice: when its worker dies, or when nobody can tell whether its end was written.
So every job looks first whether there is something to do.

The indexes that the statements below go by are in ``accounts/migrations``; procrastinate's own have
to pass by every job that waits for a later time. Jobs here have no priority: the lanes are theirs.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import structlog
from procrastinate import App
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.tasks import Task

from core.connections import run_and_let_go
from core.outages import is_outage
from core.queue import lanes
from core.queue.connection import QueueConnector, listen
from core.together import Together

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A job that became due is found within this, and so is one whose notification was lost.
POLL_S = 1.0
BEAT_S = 5.0
# Longer than a worker is silent that lives.
SILENT_AFTER_S = 15.0
# What one statement takes or writes down, at most.
MOST_AT_ONCE = 100

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
_SAY_SO_EVERY_S = 30.0
# A job that fails as if the database were away is done again after 1, 2, 4, … 60 s: a quarter of an
# hour, for no job is begun while the database is really away.
_OUTAGE_ATTEMPTS = 20

_CHANNEL = "procrastinate_queue_v1#"

# Half of what is taken has waited for nothing, half for its time, while there is enough of both.
_TAKE = """
WITH at_once AS (
    SELECT id FROM procrastinate_jobs AS job
    WHERE status = 'todo' AND scheduled_at IS NULL AND queue_name = %(lane)s AND (
        lock IS NULL OR NOT EXISTS (
            SELECT FROM procrastinate_jobs AS other
            WHERE other.lock = job.lock
                AND (other.status = 'doing' OR (other.status = 'todo' AND other.id < job.id))
        )
    )
    ORDER BY id LIMIT %(count)s FOR UPDATE SKIP LOCKED
), by_time AS (
    SELECT id FROM procrastinate_jobs AS job
    WHERE status = 'todo' AND scheduled_at <= now() AND queue_name = %(lane)s AND (
        lock IS NULL OR NOT EXISTS (
            SELECT FROM procrastinate_jobs AS other
            WHERE other.lock = job.lock
                AND (other.status = 'doing' OR (other.status = 'todo' AND other.id < job.id))
        )
    )
    ORDER BY scheduled_at, id LIMIT %(count)s FOR UPDATE SKIP LOCKED
), taken AS (
    SELECT id FROM (
        SELECT id, row_number() OVER () AS place FROM at_once
        UNION ALL
        SELECT id, row_number() OVER () AS place FROM by_time
    ) AS either ORDER BY place LIMIT %(count)s
)
UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = %(worker_id)s
FROM taken WHERE job.id = taken.id
RETURNING job.id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name,
    attempts, worker_id
"""

# What was delivered is written down with the delivery: such a job has nothing more to tell.
_ENDED = """
WITH ended AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(statuses)s::procrastinate_job_status[])
        AS ended (id, status)
), forgotten AS (
    DELETE FROM procrastinate_jobs AS job USING ended
    WHERE job.id = ended.id AND ended.status = 'succeeded' AND queue_name = %(forgotten)s
        AND job.status = 'doing' AND worker_id = %(worker_id)s
)
UPDATE procrastinate_jobs AS job
SET status = ended.status, attempts = attempts + 1, abort_requested = false
FROM ended
WHERE job.id = ended.id AND NOT (ended.status = 'succeeded' AND queue_name = %(forgotten)s)
    AND job.status = 'doing' AND worker_id = %(worker_id)s
"""

# Of jobs that only one may wait of, one that waits already makes another one superfluous.
_PUT_BACK = """
UPDATE procrastinate_jobs AS job
SET status = CASE WHEN twin.id IS NULL THEN 'todo' ELSE 'aborted' END::procrastinate_job_status,
    attempts = job.attempts + 1, scheduled_at = %(at)s::timestamptz, abort_requested = false
FROM (SELECT id, queueing_lock FROM procrastinate_jobs WHERE id = %(id)s) AS this
    LEFT JOIN procrastinate_jobs AS twin
    ON twin.status = 'todo' AND twin.queueing_lock = this.queueing_lock
WHERE job.id = this.id AND job.status = 'doing'
    AND job.worker_id IS NOT DISTINCT FROM %(worker_id)s::bigint
RETURNING job.status
"""

_MINE_BUT = """
SELECT id, task_name FROM procrastinate_jobs
WHERE status = 'doing' AND worker_id = %(worker_id)s AND queue_name = %(lane)s
    AND id <> ALL(%(running)s::bigint[])
"""

_STALLED = """
SELECT job.id, task_name, worker_id FROM procrastinate_jobs AS job
LEFT JOIN procrastinate_workers AS worker ON worker.id = worker_id
WHERE status = 'doing' AND (
    worker.id IS NULL OR last_heartbeat < now() - make_interval(secs => %(silent)s)
)
ORDER BY job.id LIMIT 1000
"""

_BEAT = """
UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = %(worker_id)s RETURNING id
"""

_FORGET_SILENT = """
DELETE FROM procrastinate_workers AS worker
WHERE last_heartbeat < now() - make_interval(secs => %(silent)s) AND id <> %(worker_id)s
    AND NOT EXISTS (
        SELECT FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = worker.id
    )
"""

_INTO_LANES = """
UPDATE procrastinate_jobs AS job SET queue_name = lane
FROM unnest(%(tasks)s::text[], %(lanes)s::text[]) AS known (task, lane)
WHERE status = 'todo' AND task_name = task AND queue_name <> lane
"""


class Stopping(Exception):
    """The worker is to stop, so that nobody waits for the database any more."""


class _End(NamedTuple):
    job: Job
    status: str


class Worker:
    """One worker. :meth:`run` returns when :meth:`stop` was called, and raises what is unexpected.

    :param places: how many jobs of each lane are done at a time.
    :param grace: for how many seconds jobs may go on after :meth:`stop`. What goes on longer in a
        thread cannot be stopped: ``leaves_threads`` says so.
    """

    def __init__(self, app: App, places: Mapping[str, int], *, grace: float) -> None:
        self._app = app
        self._places = places
        self._grace = grace
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._news = {lane: asyncio.Event() for lane in places}
        self._running: dict[str, dict[int, asyncio.Task[None]]] = {lane: {} for lane in places}
        self._in_doubt = set(places)
        self._queue = QueueConnector()
        self._ended = Together(self._write_ends, at_most=MOST_AT_ONCE)
        self._id: int | None = None
        self._beating: asyncio.Task[None] | None = None
        self._away_since: float | None = None
        self._said_so = 0.0
        self.leaves_threads = False
        # A job that is no coroutine keeps its thread while it waits: there is one for each place.
        self._threads = ThreadPoolExecutor(sum(places.values()), thread_name_prefix="job")

    def stop(self) -> None:
        """Take no more jobs; the second time, leave those that are being done to others."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> None:
        self._app.perform_import_paths()
        with self._app.replace_connector(self._queue):
            try:
                await self._until_stopped()
            except Stopping:
                pass
            finally:
                self._stop.set()
                await self._leave()

    async def _until_stopped(self) -> None:
        await self._insist(self._register)
        await self._insist(self._put_into_lanes)
        works = [self._serve(lane) for lane in self._places]
        works += [self._hear(), self._keep_time()]
        tasks = [asyncio.create_task(work) for work in works]
        stopped = asyncio.create_task(self._stop.wait())
        self._beating = asyncio.create_task(self._beat())
        until = [*tasks, self._beating, stopped]
        done, _ = await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        for news in self._news.values():
            news.set()
        # A statement that has taken jobs is waited for, so that they are known; the rest is not.
        serving = tasks[: len(self._places)]
        await asyncio.wait(serving)
        for task in [*tasks, stopped]:
            task.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
        ended = ({*done} - {stopped}) | {*serving}
        errors = [error for task in ended if (error := task.exception())]
        for error in errors:
            if not isinstance(error, Stopping):
                raise error

    # Jobs

    async def _serve(self, lane: str) -> None:
        """Take the lane's jobs and begin them, as many as there are places."""
        running, news = self._running[lane], self._news[lane]
        while not self._stop.is_set():
            news.clear()
            free = min(self._places[lane] - len(running), MOST_AT_ONCE)
            jobs = await self._insist(self._take, lane, free) if free else []
            for job in jobs:
                running[job.id or 0] = asyncio.create_task(self._do(job))
            if len(jobs) < free or not free:
                await _wait(news, at_most=POLL_S)

    async def _take(self, lane: str, count: int) -> list[Job]:
        if lane in self._in_doubt:
            await self._put_back_what_is_not_known(lane)
            self._in_doubt.discard(lane)
        rows = await self._queue.execute_query_all_async(
            _TAKE, lane=lane, count=count, worker_id=self._id
        )
        return [Job.from_row(row) for row in rows]

    async def _put_back_what_is_not_known(self, lane: str) -> None:
        """Put back jobs that were taken in a statement whose answer was lost."""
        known = list(self._running[lane])
        rows = await self._queue.execute_query_all_async(
            _MINE_BUT, lane=lane, running=known, worker_id=self._id
        )
        for row in rows:
            await self._put_back(row["id"], self._id)

    async def _do(self, job: Job) -> None:
        """Do a job, and write down how it ended."""
        try:
            end = await self._end_of(job)
            if isinstance(end, datetime):
                await self._insist(self._put_back, job.id, self._id, end)
            else:
                await self._ended(_End(job, end))
        except Stopping:
            pass  # it stays ours until others find that we are gone
        except Exception as error:
            log.exception("job_end_not_written", job_id=job.id, task=job.task_name, exc_info=error)
            self._in_doubt.add(job.queue)
        finally:
            del self._running[job.queue][job.id or 0]
            self._news[job.queue].set()

    async def _end_of(self, job: Job) -> str | datetime:
        """Do a job; return how it ended, or when it is to be done again."""
        task = self._app.tasks.get(job.task_name)
        if task is None:
            log.error("job_unknown", job_id=job.id, task=job.task_name)
            return "failed"
        try:
            await self._call(task, job.task_kwargs)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            return datetime.now(UTC)  # whoever takes over may begin at once
        except Exception as error:
            again = _time_of_retry(task, job, error)
            (log.warning if again else log.error)(
                "job_failed",
                job_id=job.id,
                task=job.task_name,
                attempts=job.attempts + 1,
                again_at=again and again.isoformat(),
                exc_info=error,
            )
            return again or "failed"
        return "succeeded"

    async def _call(self, task: Task[Any, Any, Any], arguments: dict[str, Any]) -> None:
        if inspect.iscoroutinefunction(task.func):
            await task(**arguments)
            return
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, lambda: run_and_let_go(task, **arguments))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self.leaves_threads = not work.done()
            raise

    async def _write_ends(self, ends: list[_End]) -> Sequence[None]:
        await self._insist(
            self._queue.execute_query_async,
            _ENDED,
            ids=[end.job.id for end in ends],
            statuses=[end.status for end in ends],
            worker_id=self._id,
            forgotten=lanes.CALLBACKS,
        )
        return [None] * len(ends)

    async def _put_back(
        self, job_id: int | None, worker_id: int | None, at: datetime | None = None
    ) -> str:
        """Queue a worker's job again; return what it is then, "" if it is not that worker's."""
        put_back = {"id": job_id, "worker_id": worker_id, "at": at}
        try:
            rows = await self._queue.execute_query_all_async(_PUT_BACK, **put_back)
        except UniqueViolation:  # its twin was queued at this moment, and is seen now
            rows = await self._queue.execute_query_all_async(_PUT_BACK, **put_back)
        return str(rows[0]["status"]) if rows else ""

    # The worker among others

    async def _register(self) -> None:
        self._id = await self._app.job_manager.register_worker()
        self._in_doubt = set(self._places)

    async def _put_into_lanes(self) -> None:
        """Move what was queued when a task had another lane, or none."""
        tasks = {name: task.queue for name, task in self._app.tasks.items()}
        await self._queue.execute_query_async(
            _INTO_LANES, tasks=list(tasks), lanes=list(tasks.values())
        )

    async def _beat(self) -> None:
        """Say that we live, and see to the jobs of those who do not say so any more.

        Whoever was away itself cannot tell that from the others' silence: it waits as long first.
        """
        since = time.monotonic()
        while True:
            before = time.monotonic()
            await self._insist(self._say_that_we_live)
            now = time.monotonic()
            if now - before > BEAT_S:
                since = now
            if now - since > SILENT_AFTER_S:
                await self._insist(self._take_over)
            await asyncio.sleep(BEAT_S)

    async def _say_that_we_live(self) -> None:
        if not await self._queue.execute_query_all_async(_BEAT, worker_id=self._id):
            log.warning("worker_was_taken_for_dead", worker_id=self._id)
            await self._register()

    async def _take_over(self) -> None:
        """Queue again what a worker had begun that is silent for too long; forget such workers."""
        rows = await self._queue.execute_query_all_async(_STALLED, silent=SILENT_AFTER_S)
        for row in rows:
            try:
                status = await self._put_back(row["id"], row["worker_id"])
            except Exception as error:
                if is_outage(error):
                    raise
                # As when its twin is queued at this moment: the next time tells.
                log.exception("job_not_put_back", job_id=row["id"], task=row["task_name"])
                continue
            log.warning("job_stalled", job_id=row["id"], task=row["task_name"], now=status)
        await self._queue.execute_query_async(
            _FORGET_SILENT, silent=SILENT_AFTER_S, worker_id=self._id
        )

    async def _hear(self) -> None:
        """Wake a lane when a job is queued in it."""
        lane_of = {f"{_CHANNEL}{lane}": lane for lane in self._places}
        await self._insist(listen, lane_of, lambda channel: self._news[lane_of[channel]].set())

    async def _keep_time(self) -> None:
        """Queue the periodic tasks at their times.

        Each attempt begins with a new deferrer, for this one would take what it could not queue for
        queued; the database lets nothing be queued twice.
        """

        async def keep() -> None:
            registry = self._app.periodic_registry
            await PeriodicDeferrer(registry=registry, **self._app.periodic_defaults).worker()
            await self._stop.wait()  # there are no periodic tasks

        await self._insist(keep)

    # The database

    async def _insist(self, act: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Do something in the database, however long that is away.

        Raises :class:`Stopping` if the worker is to stop meanwhile, and what is no outage.
        """
        wait = _FIRST_WAIT_S
        while True:
            try:
                result = await act(*args, **kwargs)
            except Exception as error:
                if not is_outage(error):
                    raise
                self._in_doubt.update(self._places)
                self._say_that_it_is_away(error)
            else:
                self._say_that_it_is_back()
                return result
            if self._stop.is_set():
                raise Stopping
            await _wait(self._stop, at_most=wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)

    def _say_that_it_is_away(self, error: BaseException) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        elif now < self._said_so + _SAY_SO_EVERY_S:
            return
        self._said_so = now
        cause = error.__cause__ or error
        log.warning(
            "worker_waits_for_database",
            seconds=round(now - self._away_since, 1),
            error=type(cause).__name__,
        )

    def _say_that_it_is_back(self) -> None:
        if self._away_since is not None:
            seconds = round(time.monotonic() - self._away_since, 1)
            self._away_since = None
            log.warning("database_is_back", seconds=seconds)

    # The end

    async def _leave(self) -> None:
        """Let the jobs end, for as long as they may; queue those again that do not.

        Until then this worker says that it lives, or others would begin the same jobs.
        """
        await self._jobs_end(self._grace)
        for running in self._running.values():
            for task in running.values():
                task.cancel()
        await self._jobs_end(1.0)
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})
        try:
            if self._id is not None:
                await self._app.job_manager.unregister_worker(self._id)
        except Exception as error:  # others find out
            log.warning("worker_not_unregistered", error=type(error).__name__)
        await self._queue.close_async()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _jobs_end(self, seconds: float) -> None:
        tasks = [task for running in self._running.values() for task in running.values()]
        if not tasks:
            return
        hurry = asyncio.create_task(self._hurry.wait())
        all_end = asyncio.ensure_future(asyncio.wait(tasks, timeout=seconds))
        await asyncio.wait([hurry, all_end], return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        all_end.cancel()


async def _wait(event: asyncio.Event, *, at_most: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most):
            await event.wait()


def _time_of_retry(task: Task[Any, Any, Any], job: Job, error: BaseException) -> datetime | None:
    """Return when a job that failed is done again, if it is."""
    if is_outage(error) and job.attempts < _OUTAGE_ATTEMPTS:
        return datetime.now(UTC) + timedelta(seconds=min(2**job.attempts, 60))
    retry = task.get_retry_exception(exception=error, job=job)
    return (retry.retry_decision.retry_at or datetime.now(UTC)) if retry else None
