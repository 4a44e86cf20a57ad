"""The queue's own upkeep: what procrastinate leaves to the application."""

from __future__ import annotations

from typing import Any

import structlog
from procrastinate import App
from procrastinate.contrib.django import app
from procrastinate.job_context import JobContext

log = structlog.get_logger(__name__)

KEEP_FINISHED_HOURS = 72


def on_app_ready(app: App) -> None:
    """Register the tasks of this module (it is no Django app, so nothing discovers them)."""


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
