"""Figures that a worker reads from the database, and that no process could count.

Each is one statement, answered from an index, that reads at most :data:`MOST` rows. A worker runs
them every :data:`EVERY_S`, never a scrape: a database that hangs makes them old, which
``figures_read_timestamp_seconds`` tells, and delays nothing. Every worker reads the same, so
queries take the ``max`` of all workers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import structlog
from django.db import connection
from prometheus_client import Gauge

from billing.metering.delivery import NO_CUSTOMER
from billing.models import MeterProblem
from core.connections import database_within
from core.queue import lanes
from operations.metrics.meters import REGISTRY
from telephony.db import in_database
from telephony.models import Incident, Process
from telephony.processes import processes_counted

log = structlog.get_logger(__name__)

EVERY_S = 10.0
MOST = 10_000
_WITHIN_S = 5.0


def gauge(name: str, help: str, *labels: str) -> Gauge:
    """A gauge of which every worker has the same value."""
    return Gauge(f"switchhook_{name}", help, labels, registry=REGISTRY, multiprocess_mode="livemax")


CALLBACKS_WAITING = gauge(
    "callbacks_waiting",
    f"Callbacks that are due and not being sent, up to {MOST:,}. Those that are held back because "
    "their server does not respond are not included.",
)
CALLBACKS_OLDEST = gauge(
    "callbacks_oldest_seconds", "How long the first of the waiting callbacks has been due."
)
CALLBACKS_HELD = gauge(
    "callbacks_held", f"Callbacks held back because their server does not respond, up to {MOST:,}."
)
JOBS_WAITING = gauge(
    "jobs_waiting", f"Jobs that are due and have not started, up to {MOST:,}.", "queue"
)
JOBS_OLDEST = gauge(
    "jobs_oldest_seconds", "How long the first of the waiting jobs has been due.", "queue"
)
METER_LAG = gauge(
    "meter_lag_seconds",
    "How long ago the call ended whose minutes wait longest to be sent to Stripe. Accounts without "
    "a customer in Stripe are not included.",
)
METER_DRIFT = gauge(
    "meter_drift_minutes",
    "Minutes by which Stripe's sums differ from ours in unresolved comparisons.",
)
METER_PROBLEMS = gauge("meter_problems", "Unresolved meter problems, by kind.", "kind")
STATUS_CHECKS_OLDEST = gauge(
    "status_checks_oldest_seconds",
    "How long an account's status has been unconfirmed by Stripe, at most.",
)
PROCESSES = gauge(
    "processes", "Processes by kind and state: up, draining or silent.", "kind", "state"
)
INCIDENTS = gauge(
    "incidents_open",
    f"Customers' incidents that have not ended, up to {MOST:,}: an endpoint that does not respond, "
    "calls of a number that fail, a callback that was given up.",
    "kind",
)
ACCOUNTS_FAILING = gauge(
    "accounts_failing",
    "Accounts of which calls have failed within the last 15 minutes, and none to the same number "
    f"has gone well since, up to {MOST:,}.",
)
READ_AT = gauge(
    "figures_read_timestamp_seconds", "When these figures were last read from the database."
)

_CALLBACKS = """
    SELECT count(*), coalesce(extract(epoch FROM now() - min(due_at)), 0) FROM (
        SELECT due_at FROM telephony_callbackdelivery
        WHERE state = 'pending' AND held_by_id IS NULL AND due_at <= now()
            AND (claimed_until IS NULL OR claimed_until <= now())
        LIMIT %(most)s
    ) AS waiting
"""
_HELD = """
    SELECT count(*) FROM (
        SELECT FROM telephony_callbackdelivery WHERE held_by_id IS NOT NULL LIMIT %(most)s
    ) AS held
"""
# A job without a time is due since it was queued, which its first event says.
_JOBS = """
    SELECT lane, at_once.count + by_time.count, greatest(
        extract(epoch FROM now() - (
            SELECT min(at) FROM procrastinate_events WHERE job_id = at_once.first
        )),
        extract(epoch FROM now() - by_time.first),
        0
    )
    FROM unnest(%(lanes)s::text[]) AS lane
    CROSS JOIN LATERAL (
        SELECT count(*), min(id) AS first FROM (
            SELECT id FROM procrastinate_jobs
            WHERE status = 'todo' AND scheduled_at IS NULL AND queue_name = lane
            ORDER BY id LIMIT %(most)s
        ) AS job
    ) AS at_once
    CROSS JOIN LATERAL (
        SELECT count(*), min(scheduled_at) AS first FROM (
            SELECT scheduled_at FROM procrastinate_jobs
            WHERE status = 'todo' AND scheduled_at <= now() AND queue_name = lane
            ORDER BY scheduled_at LIMIT %(most)s
        ) AS job
    ) AS by_time
"""
_METER = """
    SELECT coalesce(extract(epoch FROM now() - min(happened_at)), 0) FROM (
        SELECT happened_at, last_error FROM billing_meterevent
        WHERE state = 'pending' ORDER BY next_attempt_at LIMIT %(most)s
    ) AS pending
    WHERE last_error <> %(no_customer)s
"""
_PROBLEMS = """
    SELECT kind, count(*), coalesce(sum(abs(
        (detail->>'stripes')::numeric
        - (detail->>'settled')::numeric - (detail->>'just_sent')::numeric
    )) FILTER (WHERE kind = 'difference'), 0)
    FROM (
        SELECT kind, detail FROM billing_meterproblem WHERE resolved_at IS NULL LIMIT %(most)s
    ) AS problem GROUP BY kind
"""
_CHECKS = """
    SELECT coalesce(extract(epoch FROM now() - min(marked_at)), 0) FROM (
        SELECT marked_at FROM billing_statuscheck WHERE marks > settled ORDER BY marked_at LIMIT 1
    ) AS oldest
"""
_INCIDENTS = """
    SELECT kind, count(*) FROM (
        SELECT kind FROM telephony_incident WHERE ended_at IS NULL LIMIT %(most)s
    ) AS incident GROUP BY kind
"""

_FAILING = """
    SELECT count(DISTINCT account_id) FROM (
        SELECT account_id FROM telephony_incident
        WHERE last_at > now() - interval '15 minutes' AND kind = 'calls' AND ended_at IS NULL
        LIMIT %(most)s
    ) AS incident
"""

Row = tuple[Any, ...]


async def read_on() -> None:
    """Read the figures, repeatedly."""
    while True:
        try:
            with database_within(_WITHIN_S):
                await in_database(read)
        except Exception as error:
            log.warning("figures_not_read", error=type(error).__name__)
        await asyncio.sleep(EVERY_S)


def read() -> None:
    """Read all figures once."""
    for figure in _FIGURES:
        figure()
    READ_AT.set(time.time())


def _rows(statement: str) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(
            statement, {"most": MOST, "lanes": list(lanes.PLACES), "no_customer": NO_CUSTOMER}
        )
        return cursor.fetchall()


def _callbacks() -> None:
    ((count, oldest),) = _rows(_CALLBACKS)
    CALLBACKS_WAITING.set(count)
    CALLBACKS_OLDEST.set(float(oldest))


def _held() -> None:
    ((count,),) = _rows(_HELD)
    CALLBACKS_HELD.set(count)


def _jobs() -> None:
    for lane, count, oldest in _rows(_JOBS):
        JOBS_WAITING.labels(lane).set(count)
        JOBS_OLDEST.labels(lane).set(float(oldest))


def _meter() -> None:
    ((oldest,),) = _rows(_METER)
    METER_LAG.set(float(oldest))


def _problems() -> None:
    rows = _rows(_PROBLEMS)
    _set_all(METER_PROBLEMS, MeterProblem.Kind.values, {kind: count for kind, count, _ in rows})
    METER_DRIFT.set(float(sum(drift for _, _, drift in rows)))


def _checks() -> None:
    ((oldest,),) = _rows(_CHECKS)
    STATUS_CHECKS_OLDEST.set(float(oldest))


def _processes() -> None:
    counts = processes_counted()
    for kind in Process.Kind.values:
        for state in Process.State.values:
            PROCESSES.labels(kind, state).set(counts[kind, state])


def _incidents() -> None:
    _set_all(INCIDENTS, Incident.Kind.values, dict(_rows(_INCIDENTS)))


def _failing() -> None:
    ((count,),) = _rows(_FAILING)
    ACCOUNTS_FAILING.set(count)


def _set_all(gauge: Gauge, kinds: Iterable[Any], counts: dict[str, int]) -> None:
    for kind in kinds:
        gauge.labels(kind).set(counts.get(kind, 0))


_FIGURES = (
    _callbacks,
    _held,
    _jobs,
    _meter,
    _problems,
    _checks,
    _processes,
    _incidents,
    _failing,
)
