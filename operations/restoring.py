"""What a database needs after it was restored, before processes start: ``manage.py after_restore``.

A backup knows nothing of what happened after it. Its jobs may have run, its calls have ended, and
Stripe may have counted minutes that it takes for unsent. docs/backup.md explains what each step
does, and why the rest needs none.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection, transaction
from django.utils import timezone

from accounts.models import WebhookSecret
from accounts.services import webhook_secrets_replace_lost
from billing import status_checks
from billing.metering import comparison
from billing.metering.events import meter_events_doubt
from core.queue import lanes
from core.queue.jobs import defer
from telephony.callbacks.outbox import deliveries_withdraw
from telephony.engines import calls_end_stale
from telephony.models import Process

# A wrong key opens none of them. Some of the oldest may need a fallback that is no longer set.
_SECRETS = 20

_DROP_JOBS = """
    DELETE FROM procrastinate_jobs WHERE status IN ('todo', 'doing') AND {}
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """How many secrets were replaced, calls ended, emails dropped, and meter events doubted."""

    secrets: int
    calls: int
    emails: int
    meter_events: int


def running_processes() -> list[Process]:
    """Return the processes that use this database."""
    return list(Process.objects.heard())


def opens_secrets() -> bool:
    """Return False if ``SECRET_KEY`` and its fallbacks open none of the newest sealed values."""
    secrets = list(WebhookSecret.objects.order_by("-pk")[:_SECRETS])
    return not secrets or any(secret.opens() for secret in secrets)


def prepare(*, is_old: bool, key_is_lost: bool = False) -> Prepared:
    """Prepare the database; doing it again changes nothing.

    :param is_old: the backup is older than the failure, so the calls that were in progress then
        have ended and been reported in another way.
    :param key_is_lost: replace the webhook secrets that cannot be opened, so that callbacks can be
        signed, and be verified once their owner has fetched the new one.
    """
    secrets = webhook_secrets_replace_lost() if key_is_lost else 0
    calls = _end_calls(report=not is_old)
    with transaction.atomic():
        emails = _drop_jobs("queue_name = %s", lanes.MAIL)
        defer(status_checks.PAGE_TASK, only_one=status_checks.PAGE_TASK, after="")
        defer(comparison.PAGE_TASK, only_one=comparison.PAGE_TASK, after="")
    return Prepared(secrets, calls, emails, meter_events_doubt())


def _end_calls(*, report: bool) -> int:
    """End the calls in progress as lost, and charge them up to their engines' last heartbeat."""
    began, last_job = timezone.now(), _last_job()
    count = 0
    while ended := calls_end_stale(timezone.now()):
        count += ended
    if not report:
        deliveries_withdraw(since=began)
        _drop_jobs("id > %s", last_job)
    return count


def _last_job() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM procrastinate_jobs")
        return int(cursor.fetchone()[0])


def _drop_jobs(which: str, *values: str | int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_DROP_JOBS.format(which), values)
        return int(cursor.rowcount)
