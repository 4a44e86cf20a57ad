"""The jobs of this app. Their arguments are ids only."""

from __future__ import annotations

from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from billing import closing, status_checks
from billing.stripe_api import PaymentsUnavailable
from core.queue import lanes
from core.queue.jobs import defer

# After 4, 16, 64 and 256 seconds. The schedule picks up what fails longer.
_WHEN_STRIPE_IS_DOWN = RetryStrategy(
    max_attempts=4, exponential_wait=4, retry_exceptions=[PaymentsUnavailable]
)

# Every minute, for a week: it must succeed, and nothing else would retry it.
UNTIL_STRIPE_IS_BACK = RetryStrategy(
    max_attempts=10_000, wait=60, retry_exceptions=[PaymentsUnavailable]
)


@app.task(queue=lanes.MONEY, retry=UNTIL_STRIPE_IS_BACK)
def update_customer(account_id: str) -> None:
    closing.customer_update(account_id)


@app.task(queue=lanes.MONEY, retry=_WHEN_STRIPE_IS_DOWN)
def check_status(account_id: str) -> None:
    status_checks.status_check(account_id)
    closing.late_subscriptions_end_soon(account_id=account_id)


@app.periodic(cron="*/15 * * * *")
@app.task(queue=lanes.MONEY, queueing_lock="check_unsettled")
def check_unsettled(timestamp: int) -> None:
    status_checks.unsettled_mark()


@app.periodic(cron="23 2 * * *")
@app.task(queue=lanes.MONEY, queueing_lock="check_everybody")
def check_everybody(timestamp: int) -> None:
    defer(status_checks.PAGE_TASK, only_one=status_checks.PAGE_TASK, after="")


@app.task(queue=lanes.MONEY)
def check_page(after: str) -> None:
    status_checks.page_mark(after)
