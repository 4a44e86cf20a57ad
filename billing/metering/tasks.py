"""The jobs of metering. Their arguments are ids only.

The aliases are the names under which an earlier release may have queued them.
"""

from __future__ import annotations

from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from billing.metering import comparison, events, problems
from billing.stripe_api import PaymentsUnavailable
from core.queue import lanes
from core.queue.jobs import defer

# Every ten minutes, for most of a day: it is not urgent.
_WHEN_STRIPE_IS_DOWN = RetryStrategy(
    max_attempts=100, wait=600, retry_exceptions=[PaymentsUnavailable]
)


@app.periodic(cron="* * * * *")
@app.task(
    queue=lanes.MONEY, queueing_lock="meter_usage", aliases=["billing.metering_tasks.meter_usage"]
)
def meter_usage(timestamp: int) -> None:
    """Store new meter events, and send those that are due.

    A job with many events continues while the next one starts.
    """
    events.meter_events_write()
    events.meter_events_send()


@app.periodic(cron="41 3 * * *")
@app.task(
    queue=lanes.MONEY, queueing_lock="search_usage", aliases=["billing.metering_tasks.search_usage"]
)
def search_usage(timestamp: int) -> None:
    events.meter_events_search()


@app.periodic(cron="11 4 * * *")
@app.task(
    queue=lanes.MONEY,
    queueing_lock="compare_meter",
    aliases=["billing.metering_tasks.compare_meter"],
)
def compare_meter(timestamp: int) -> None:
    defer(comparison.PAGE_TASK, only_one=comparison.PAGE_TASK, after="")


@app.task(
    queue=lanes.MONEY, retry=_WHEN_STRIPE_IS_DOWN, aliases=["billing.metering_tasks.compare_page"]
)
def compare_page(after: str) -> None:
    comparison.page_compare(after)


@app.task(
    queue=lanes.MONEY,
    retry=_WHEN_STRIPE_IS_DOWN,
    aliases=["billing.metering_tasks.read_error_report"],
)
def read_error_report(event_id: str) -> None:
    problems.error_report_read(event_id)
