"""The queue's own upkeep: what procrastinate leaves to the application."""

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

_REMOVED_AT_ONCE = 10_000
# A job's last event is its end. Jobs are looked at in the order of their ids, the oldest first.
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
    """Queue a job that commits with the caller's transaction, or not at all.

    Of jobs with the same ``only_one``, a second is not queued while the first waits. Of those with
    the same ``lock``, one is done at a time.

    In a web process ``task.defer()`` does the same. In a worker it does not: there the queue has a
    connection of its own, and the job would start before what it is about can be seen.
    """
    deferrer = app.configure_task(
        task_name, allow_unknown=False, schedule_at=at, queueing_lock=only_one, lock=lock
    )
    deferrer.job_manager = _on_djangos_connection
    with suppress(AlreadyEnqueued), transaction.atomic():
        deferrer.defer(**arguments)


class Queued(NamedTuple):
    """A job to be: its arguments, when it is due (None: at once), and ``only_one``."""

    arguments: dict[str, JSONValue]
    at: datetime | None = None
    only_one: str | None = None


def defer_many(task_name: str, jobs: Sequence[Queued]) -> None:
    """Do what :func:`defer` does, for many jobs of a task in one statement."""
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
    aliases=["config.jobs.remove_old_jobs"],  # the name under which a release of before queued it
)
def remove_old_jobs(timestamp: int) -> None:
    """Delete the records of jobs that ended three days ago or earlier."""
    while _remove_some() == _REMOVED_AT_ONCE:
        pass


def _remove_some() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE, {"hours": KEEP_FINISHED_HOURS, "count": _REMOVED_AT_ONCE})
        return int(cursor.rowcount)
