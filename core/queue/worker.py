"""The worker, which runs the jobs of the queue and survives outages of the database.

Procrastinate provides the queue. Its own worker exits when the database restarts, and all jobs
share its places. This worker waits until the database is back, and has separate places for each
lane (``core.queue.lanes``). One statement takes as many jobs as places are free, and one statement
records the jobs that have ended.

A job may run twice: after its worker dies, or if it is unclear whether its end was recorded. So
every job first checks whether there is still something to do.

The indexes for the statements below are in ``accounts/migrations``. Procrastinate's own indexes
would read past every job that waits for a later time. Jobs have lanes instead of priorities.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

import structlog
from procrastinate import App
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.tasks import Task
from structlog.contextvars import bind_contextvars

from core.connections import run_and_let_go
from core.observers import tell
from core.outages import is_outage
from core.queue import lanes
from core.queue.connection import QueueConnector, listen
from core.together import Together

log = structlog.get_logger(__name__)

T = TypeVar("T")

# The longest until a worker finds a job that became due, or whose notification was lost.
POLL_S = 1.0
BEAT_S = 5.0
# Longer than a worker that is alive goes without a heartbeat.
SILENT_AFTER_S = 15.0
# The most jobs that one statement takes or records.
MOST_AT_ONCE = 100

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
_LOG_EVERY_S = 30.0
# A job that fails as in an outage of the database is retried after 1, 2, 4, … 60 s. A quarter of an
# hour is enough, because no job starts while the database is really unavailable.
_OUTAGE_ATTEMPTS = 20

_CHANNEL = "procrastinate_queue_v1#"

# While there are enough of both, half of the jobs taken were due at once and half at a set time.
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

# A delivery records its own success, so the job of a delivered callback is deleted.
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

# If a job with the same queueing lock is already waiting, this job is superfluous.
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
    """The worker is stopping, so it no longer waits for the database."""


class JobEnded(NamedTuple):
    """A run of a job ended as ``succeeded`` or ``failed``, or is to be run again: ``retried``."""

    task: str
    queue: str
    outcome: str
    seconds: float


class _End(NamedTuple):
    job: Job
    status: str


class Worker:
    """A worker. :meth:`run` returns after :meth:`stop`, and raises unexpected errors.

    :param places: the most jobs of each lane that run at a time.
    :param grace: the seconds that jobs may keep running after :meth:`stop`. A thread that runs
        longer cannot be stopped; ``leaves_threads`` is then True.
    """

    def __init__(self, app: App, places: Mapping[str, int], *, grace: float) -> None:
        self._app = app
        self._places = places
        self._grace = grace
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._wake = {lane: asyncio.Event() for lane in places}
        self._running: dict[str, dict[int, asyncio.Task[None]]] = {lane: {} for lane in places}
        self._in_doubt = set(places)
        self._queue = QueueConnector()
        self._ended = Together(self._write_ends, at_most=MOST_AT_ONCE)
        self._id: int | None = None
        self._beating: asyncio.Task[None] | None = None
        self._away_since: float | None = None
        self._logged_at = 0.0
        self.leaves_threads = False
        # A job that isn't a coroutine blocks its thread while it waits, so each place has a thread.
        self._threads = ThreadPoolExecutor(sum(places.values()), thread_name_prefix="job")

    def stop(self) -> None:
        """Take no more jobs; a second call cuts the grace period short and requeues what runs."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> None:
        self._app.perform_import_paths()
        with self._app.replace_connector(self._queue):
            try:
                await self._run_until_stopped()
            except Stopping:
                pass
            finally:
                self._stop.set()
                await self._leave()

    async def _run_until_stopped(self) -> None:
        await self._retry_in_outages(self._register)
        await self._retry_in_outages(self._put_into_lanes)
        works = [self._serve(lane) for lane in self._places]
        works += [self._listen(), self._queue_periodic()]
        tasks = [asyncio.create_task(work) for work in works]
        stopped = asyncio.create_task(self._stop.wait())
        self._beating = asyncio.create_task(self._beat())
        until = [*tasks, self._beating, stopped]
        done, _ = await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        for wake in self._wake.values():
            wake.set()
        # Statements that take jobs must finish, so that the jobs they took are known. Nothing else
        # is waited for.
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
        """Take the lane's jobs and start them, as many as places are free."""
        running, wake = self._running[lane], self._wake[lane]
        while not self._stop.is_set():
            wake.clear()
            free = min(self._places[lane] - len(running), MOST_AT_ONCE)
            jobs = await self._retry_in_outages(self._take, lane, free) if free else []
            for job in jobs:
                running[job.id or 0] = asyncio.create_task(self._run_job(job))
            if len(jobs) < free or not free:
                await _wait(wake, at_most=POLL_S)

    async def _take(self, lane: str, count: int) -> list[Job]:
        if lane in self._in_doubt:
            await self._put_back_unknown(lane)
            self._in_doubt.discard(lane)
        rows = await self._queue.execute_query_all_async(
            _TAKE, lane=lane, count=count, worker_id=self._id
        )
        return [Job.from_row(row) for row in rows]

    async def _put_back_unknown(self, lane: str) -> None:
        """Requeue the jobs taken by a statement whose response was lost."""
        known = list(self._running[lane])
        rows = await self._queue.execute_query_all_async(
            _MINE_BUT, lane=lane, running=known, worker_id=self._id
        )
        for row in rows:
            await self._put_back(row["id"], self._id)

    async def _run_job(self, job: Job) -> None:
        """Run a job, and record how it ended."""
        ids = {name: id for name, id in job.task_kwargs.items() if name.endswith("_id")}
        # For this job alone: it has a task of its own.
        bind_contextvars(**{**ids, "job_id": job.id, "task": job.task_name})
        began = time.monotonic()
        try:
            end = await self._outcome_of(job)
            outcome = end if isinstance(end, str) else "retried"
            tell(JobEnded(job.task_name, job.queue, outcome, time.monotonic() - began))
            if isinstance(end, datetime):
                await self._retry_in_outages(self._put_back, job.id, self._id, end)
            else:
                await self._ended(_End(job, end))
        except Stopping:
            pass  # it stays ours until another worker finds that we are gone
        except Exception as error:
            log.exception("job_end_not_written", exc_info=error)
            self._in_doubt.add(job.queue)
        finally:
            del self._running[job.queue][job.id or 0]
            self._wake[job.queue].set()

    async def _outcome_of(self, job: Job) -> str | datetime:
        """Run a job; return its final status, or the time of its retry."""
        task = self._app.tasks.get(job.task_name)
        if task is None:
            log.error("job_unknown")
            return "failed"
        try:
            await self._call(task, job.task_kwargs)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            return datetime.now(UTC)  # another worker may start it at once
        except Exception as error:
            again = _time_of_retry(task, job, error)
            (log.warning if again else log.error)(
                "job_failed",
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
        call = partial(run_and_let_go, task, **arguments)
        work = loop.run_in_executor(self._threads, copy_context().run, call)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self.leaves_threads = not work.done()
            raise

    async def _write_ends(self, ends: list[_End]) -> Sequence[None]:
        await self._retry_in_outages(
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
        """Requeue a worker's job; return its new status, or "" if it is not that worker's."""
        put_back = {"id": job_id, "worker_id": worker_id, "at": at}
        try:
            rows = await self._queue.execute_query_all_async(_PUT_BACK, **put_back)
        except UniqueViolation:  # its twin was queued meanwhile, and is visible now
            rows = await self._queue.execute_query_all_async(_PUT_BACK, **put_back)
        return str(rows[0]["status"]) if rows else ""

    # Other workers

    async def _register(self) -> None:
        self._id = await self._app.job_manager.register_worker()
        self._in_doubt = set(self._places)

    async def _put_into_lanes(self) -> None:
        """Move jobs that were queued when their task had another lane, or none."""
        tasks = {name: task.queue for name, task in self._app.tasks.items()}
        await self._queue.execute_query_async(
            _INTO_LANES, tasks=list(tasks), lanes=list(tasks.values())
        )

    async def _beat(self) -> None:
        """Write heartbeats, and take over the jobs of workers that no longer do.

        After an outage of its own, this worker can't tell it from the others' silence. So it gives
        them ``SILENT_AFTER_S`` before it takes over.
        """
        since = time.monotonic()
        while True:
            before = time.monotonic()
            await self._retry_in_outages(self._write_heartbeat)
            now = time.monotonic()
            if now - before > BEAT_S:
                since = now
            if now - since > SILENT_AFTER_S:
                await self._retry_in_outages(self._take_over)
            await asyncio.sleep(BEAT_S)

    async def _write_heartbeat(self) -> None:
        if not await self._queue.execute_query_all_async(_BEAT, worker_id=self._id):
            log.warning("worker_was_taken_for_dead", worker_id=self._id)
            await self._register()

    async def _take_over(self) -> None:
        """Requeue the jobs of workers that have been silent too long, and delete these workers."""
        rows = await self._queue.execute_query_all_async(_STALLED, silent=SILENT_AFTER_S)
        for row in rows:
            try:
                status = await self._put_back(row["id"], row["worker_id"])
            except Exception as error:
                if is_outage(error):
                    raise
                # Its twin may have been queued meanwhile; the next heartbeat tries again.
                log.exception("job_not_put_back", job_id=row["id"], task=row["task_name"])
                continue
            log.warning("job_stalled", job_id=row["id"], task=row["task_name"], now=status)
        await self._queue.execute_query_async(
            _FORGET_SILENT, silent=SILENT_AFTER_S, worker_id=self._id
        )

    async def _listen(self) -> None:
        """Wake a lane when a job is queued in it."""
        lane_of = {f"{_CHANNEL}{lane}": lane for lane in self._places}
        await self._retry_in_outages(
            listen, lane_of, lambda channel: self._wake[lane_of[channel]].set()
        )

    async def _queue_periodic(self) -> None:
        """Queue the periodic tasks at their times.

        Each attempt starts with a new deferrer, because the old one treats what it failed to queue
        as queued. The database ensures that nothing is queued twice.
        """

        async def keep() -> None:
            registry = self._app.periodic_registry
            await PeriodicDeferrer(registry=registry, **self._app.periodic_defaults).worker()
            await self._stop.wait()  # there are no periodic tasks

        await self._retry_in_outages(keep)

    # The database

    async def _retry_in_outages(
        self, act: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any
    ) -> T:
        """Run ``act``, and retry it until the database is available.

        Raises :class:`Stopping` if the worker stops meanwhile, and any error that is not an outage.
        """
        wait = _FIRST_WAIT_S
        while True:
            try:
                result = await act(*args, **kwargs)
            except Exception as error:
                if not is_outage(error):
                    raise
                self._in_doubt.update(self._places)
                self._log_outage(error)
            else:
                self._log_recovery()
                return result
            if self._stop.is_set():
                raise Stopping
            await _wait(self._stop, at_most=wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)

    def _log_outage(self, error: BaseException) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        elif now < self._logged_at + _LOG_EVERY_S:
            return
        self._logged_at = now
        cause = error.__cause__ or error
        log.warning(
            "worker_waits_for_database",
            seconds=round(now - self._away_since, 1),
            error=type(cause).__name__,
        )

    def _log_recovery(self) -> None:
        if self._away_since is not None:
            seconds = round(time.monotonic() - self._away_since, 1)
            self._away_since = None
            log.warning("database_is_back", seconds=seconds)

    # The end

    async def _leave(self) -> None:
        """Wait for the jobs to end, within the grace period; requeue those that do not.

        Heartbeats continue until then, or other workers would start the same jobs.
        """
        await self._wait_for_jobs(self._grace)
        for running in self._running.values():
            for task in running.values():
                task.cancel()
        await self._wait_for_jobs(1.0)
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})
        try:
            if self._id is not None:
                await self._app.job_manager.unregister_worker(self._id)
        except Exception as error:  # other workers notice its silence
            log.warning("worker_not_unregistered", error=type(error).__name__)
        await self._queue.close_async()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _wait_for_jobs(self, seconds: float) -> None:
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
    """Return the time of a failed job's retry, or None if it has none."""
    if is_outage(error) and job.attempts < _OUTAGE_ATTEMPTS:
        return datetime.now(UTC) + timedelta(seconds=min(2**job.attempts, 60))
    retry = task.get_retry_exception(exception=error, job=job)
    return (retry.retry_decision.retry_at or datetime.now(UTC)) if retry else None
