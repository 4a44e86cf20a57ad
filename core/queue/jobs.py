"""Queueing jobs, and deleting old ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from django.db import connection, transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.manager import JobManager
from procrastinate.types import JSONValue

from core.queue import lanes

KEEP_FINISHED_HOURS = 72

_REMOVE_BATCH = 10_000
# A job ended at its last event. Jobs are read in the order of their IDs, oldest first.
_REMOVE = """
DELETE FROM procrastinate_jobs WHERE id IN (
    SELECT id FROM procrastinate_jobs AS job
    WHERE status IN ('succeeded', 'failed', 'cancelled', 'aborted') AND (
        SELECT max(at) FROM procrastinate_events WHERE job_id = job.id
    ) < now() - make_interval(hours => %(hours)s)
    ORDER BY id LIMIT %(count)s
)
"""

_DEFER_MANY = """
INSERT INTO procrastinate_jobs (task_name, queue_name, args, scheduled_at, queueing_lock)
SELECT %(task)s, %(lane)s, arguments, at, only_one FROM unnest(
    %(arguments)s::text[]::jsonb[], %(times)s::timestamptz[], %(only_ones)s::text[]
) AS job (arguments, at, only_one)
ON CONFLICT DO NOTHING
"""

_on_djangos_connection = JobManager(DjangoConnector())


def defer(
    task_name: str,
    *,
    at: datetime | None = None,
    only_one: str | None = None,
    lock: str | None = None,
    **arguments: JSONValue,
) -> None:
    """Queue a job in the caller's transaction.

    While a job with the same ``only_one`` is waiting, a second one is not queued. Of jobs with the
    same ``lock``, one runs at a time.

    In a web process, ``task.defer()`` does the same. In a worker, the queue has its own connection,
    and ``task.defer()`` would start the job before the transaction commits.
    """
    deferrer = app.configure_task(
        task_name, allow_unknown=False, schedule_at=at, queueing_lock=only_one, lock=lock
    )
    deferrer.job_manager = _on_djangos_connection
    # Only a conflict needs a savepoint, to go back to.
    with suppress(AlreadyEnqueued), transaction.atomic(savepoint=only_one is not None):
        deferrer.defer(**arguments)


class Queued(NamedTuple):
    """A job to queue: its arguments, when it is due (None for now), and ``only_one``."""

    arguments: dict[str, JSONValue]
    at: datetime | None = None
    only_one: str | None = None


def defer_many(task_name: str, jobs: Sequence[Queued]) -> None:
    """Queue many jobs of a task in one statement, as :func:`defer` does."""
    if not jobs:
        return
    task = app.configure_task(task_name, allow_unknown=False).job
    with connection.cursor() as cursor:
        cursor.execute(
            _DEFER_MANY,
            {
                "task": task.task_name,
                "lane": task.queue,
                "arguments": [json.dumps(job.arguments) for job in jobs],
                "times": [job.at for job in jobs],
                "only_ones": [job.only_one for job in jobs],
            },
        )


@app.periodic(cron="17 3 * * *")
@app.task(
    queue=lanes.UPKEEP,
    queueing_lock="remove_old_jobs",
    aliases=["config.jobs.remove_old_jobs"],  # the name in an earlier release
)
def remove_old_jobs(timestamp: int) -> None:
    """Delete jobs that ended three days ago or earlier."""
    while _remove_some() == _REMOVE_BATCH:
        pass


def _remove_some() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE, {"hours": KEEP_FINISHED_HOURS, "count": _REMOVE_BATCH})
        return int(cursor.rowcount)
