"""The queue's own upkeep: what procrastinate leaves to the application."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.job_context import JobContext
from procrastinate.manager import JobManager
from procrastinate.types import JSONValue

log = structlog.get_logger(__name__)

KEEP_FINISHED_HOURS = 72

_on_djangos_connection = JobManager(DjangoConnector())


def defer(
    task_name: str,
    *,
    at: datetime | None = None,
    only_one: str | None = None,
    **arguments: JSONValue,
) -> None:
    """Queue a job that commits with the caller's transaction, or not at all.

    Of jobs with the same ``only_one``, a second is not queued while the first waits.

    In a web process ``task.defer()`` does the same. In a worker it does not: there the app has
    connections of its own, and the job would start before what it is about can be seen.
    """
    deferrer = app.configure_task(
        task_name, allow_unknown=False, schedule_at=at, queueing_lock=only_one
    )
    deferrer.job_manager = _on_djangos_connection
    with suppress(AlreadyEnqueued), transaction.atomic():
        deferrer.defer(**arguments)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="retry_stalled_jobs", pass_context=True)
async def retry_stalled_jobs(context: JobContext, timestamp: int) -> None:
    """Queue again what a worker had begun when it died (its heartbeat has stopped)."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs():
        log.warning("job_stalled", job_id=job.id, task=job.task_name)
        await manager.retry_job(job)


@app.periodic(cron="17 3 * * *")
@app.task(queueing_lock="remove_old_jobs", pass_context=True)
async def remove_old_jobs(context: JobContext, timestamp: int) -> Any:
    """Delete the records of jobs that ended three days ago or earlier."""
    await context.app.job_manager.delete_old_jobs(
        nb_hours=KEEP_FINISHED_HOURS, include_failed=True, include_cancelled=True
    )
