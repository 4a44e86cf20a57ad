"""What needs an operator's attention: the one list of conditions.

The start page shows those that are met, ``operations.incidents`` tells operators of them, and the
guide has a table of them. No condition scans the history: each reads an index, the newest rows, or
the jobs of three days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.urls import reverse
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from billing.metering.delivery import NO_CUSTOMER
from billing.models import MeterEvent, MeterProblem, StatusChange, StatusCheck
from billing.status_checks import NIGHTLY, RECONCILIATION
from core.ids import first_id_of
from core.queue import lanes
from operations import figures
from operations.failures import Failures, failures
from operations.figures import Figure, age, capped, list_url, shown
from telephony.engine.codes import ErrorCode
from telephony.models import Call, CallbackDelivery, Process

# Older checks should be settled: a check takes seconds, its retries minutes.
_DOUBTED_TOO_LONG = timedelta(hours=1)
_RETRIED_OFTEN = 4  # half an hour of failures
_WAITED_TOO_LONG = timedelta(minutes=10)
# Minutes are sent within seconds, and after an outage of Stripe within an hour.
_UNREPORTED_TOO_LONG = timedelta(hours=2)
# A deploy is over by then.
_TOO_LONG_SIDE_BY_SIDE = timedelta(hours=1)
_DAY = timedelta(days=1)


class Severity(StrEnum):
    CRITICAL = "critical"  # calls or callbacks are affected now
    WARNING = "warning"
    INFO = "info"  # often the customer's fault: shown, and nobody is told


@dataclass(frozen=True, slots=True)
class Finding:
    """That a condition is met: a figure, and the list behind it.

    ``newest`` is when the last of several events happened. A condition without it is a state, which
    is met as long as it is found.
    """

    text: str
    url: str
    label: str = ""
    newest: datetime | None = None


class Facts:
    """What the conditions are about, as it is now; what several need is looked up once."""

    def __init__(self, *, now: datetime | None = None) -> None:
        self.now = now or timezone.now()

    @cached_property
    def failures(self) -> Failures:
        return failures()

    @cached_property
    def processes(self) -> list[Any]:
        return list(Process.objects.with_state().order_by("-last_seen_at")[: figures.MOST])

    def processes_that_are(self, state: Process.State, *kinds: Process.Kind) -> list[Any]:
        return [
            process
            for process in self.processes
            if process.state == state and (not kinds or process.kind in kinds)
        ]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition; ``title`` is a sentence, ``meaning`` and ``remedy`` are Markdown.

    ``label`` follows the figure, or ``one`` if that is 1, unless the finding has its own.
    ``section`` is the anchor in the guide that says more. ``is_of_processes`` is true of what any
    process can look at without noticing it.
    """

    key: str
    severity: Severity
    title: str
    label: str
    meaning: str
    remedy: str
    section: str
    find: Callable[[Facts], Finding | None]
    is_of_processes: bool = False
    one: str = ""

    @property
    def guide_url(self) -> str:
        return f"{reverse('guide', args=['operations'])}#{self.section}"

    def figure(self, finding: Finding) -> Figure:
        return Figure(self.label_of(finding), finding.text, finding.url, self.guide_url)

    def label_of(self, finding: Finding) -> str:
        return finding.label or (self.one if finding.text == "1" else "") or self.label


def _no_engine(facts: Facts) -> Finding | None:
    if facts.processes_that_are(Process.State.UP, Process.Kind.ENGINE):
        return None
    url = list_url(Process, kind__exact=Process.Kind.ENGINE)
    return Finding("No engine", url, "accepts calls")


def _no_worker(facts: Facts) -> Finding | None:
    if facts.processes_that_are(Process.State.UP, Process.Kind.WORKER):
        return None
    url = list_url(Process, kind__exact=Process.Kind.WORKER)
    return Finding("No worker", url, "is running")


def _unserved_queues(facts: Facts) -> Finding | None:
    workers = facts.processes_that_are(Process.State.UP, Process.Kind.WORKER)
    served = {queue for worker in workers for queue in worker.queues.split(",")}
    unserved = [queue for queue in lanes.PLACES if queue not in served]
    if not workers or not unserved:
        return None
    url = list_url(Process, kind__exact=Process.Kind.WORKER)
    what = "queue" if len(unserved) == 1 else "queues"
    return Finding(str(len(unserved)), url, f"{what} without a worker: {', '.join(unserved)}")


def _silent_processes(facts: Facts) -> Finding | None:
    silent = facts.processes_that_are(Process.State.SILENT)
    if not silent:
        return None
    what = "process" if len(silent) == 1 else "processes"
    return Finding(
        shown(len(silent)),
        list_url(Process, state=Process.State.SILENT),
        f"{what} fell silent in the last 24 hours, the last one {silent[0]}",
        newest=silent[0].last_seen_at,
    )


def _versions(facts: Facts) -> Finding | None:
    first: dict[str, datetime] = {}
    for process in facts.processes_that_are(Process.State.UP):
        started = first.get(process.version, process.started_at)
        first[process.version] = min(started, process.started_at)
    if len(first) < 2 or max(first.values()) > facts.now - _TOO_LONG_SIDE_BY_SIDE:
        return None
    return Finding(str(len(first)), list_url(Process))


def _crashes(code: ErrorCode) -> Callable[[Facts], Finding | None]:
    def find(facts: Facts) -> Finding | None:
        crashed = Call.objects.filter(error_code=code, id__gte=first_id_of(facts.now - _DAY))
        ends = list(crashed.order_by("-id").values_list("ended_at", flat=True)[: figures.MOST])
        if not ends:
            return None
        newest = max((end for end in ends if end), default=facts.now)
        return Finding(shown(len(ends)), list_url(Call, error_code=code), newest=newest)

    return find


def _failing_calls(facts: Facts) -> Finding | None:
    found = facts.failures
    if not found.too_many_fail:
        return None
    label = f"of the last {found.calls:,} calls failed"
    return Finding(f"{found.share:.1%}", list_url(Call, outcome="failed"), label)


def _rejected_calls(facts: Facts) -> Finding | None:
    found = facts.failures
    if not found.too_many_rejected:
        return None
    label = f"of the last {found.calls:,} calls were rejected"
    return Finding(f"{found.rejected:.1%}", list_url(Call, ended_reason="rejected"), label)


def _behind_on_callbacks(facts: Facts) -> Finding | None:
    overdue = CallbackDelivery.objects.ready().filter(due_at__lt=facts.now - _WAITED_TOO_LONG)
    due_at = overdue.order_by("due_at").values_list("due_at", flat=True).first()
    url = list_url(CallbackDelivery, state__exact=CallbackDelivery.State.PENDING)
    return Finding(age(facts.now - due_at), url) if due_at else None


def _behind_on_jobs(facts: Facts) -> Finding | None:
    times = (_oldest_scheduled(facts.now), _oldest_immediate(facts.now))
    if not any(times):
        return None
    oldest = min(time for time in times if time)
    return Finding(age(facts.now - oldest), list_url(ProcrastinateJob, status__exact="todo"))


def _oldest_scheduled(now: datetime) -> datetime | None:
    jobs = ProcrastinateJob.objects.filter(status="todo", scheduled_at__lt=now - _WAITED_TOO_LONG)
    return jobs.order_by("scheduled_at").values_list("scheduled_at", flat=True).first()


def _oldest_immediate(now: datetime) -> datetime | None:
    """Return when the first waiting job without a time was queued, if that is too long ago."""
    queued = ProcrastinateEvent.objects.filter(job=OuterRef("pk"), type="deferred")
    jobs = ProcrastinateJob.objects.filter(status="todo", scheduled_at=None).order_by("id")
    at: datetime | None = (
        jobs.annotate(queued_at=Subquery(queued.values("at")[:1]))
        .values_list("queued_at", flat=True)
        .first()
    )
    return at if at and at < now - _WAITED_TOO_LONG else None


def _behind_on_minutes(facts: Facts) -> Finding | None:
    """Find the oldest of the minutes that are due first: Stripe is asked for them in that order."""
    unsent = MeterEvent.objects.unsent().exclude(last_error=NO_CUSTOMER)
    due = unsent.order_by("next_attempt_at").values_list("happened_at", flat=True)[: figures.MOST]
    oldest = min(due, default=facts.now)
    if oldest > facts.now - _UNREPORTED_TOO_LONG:
        return None
    url = list_url(MeterEvent, state__exact=MeterEvent.State.PENDING)
    return Finding(age(facts.now - oldest), url)


def _drifted_statuses(facts: Facts) -> Finding | None:
    """Look at the last changes: these have no index by time."""
    last = StatusChange.objects.order_by("-pk").values("pk")[: figures.MOST]
    drifted = StatusChange.objects.filter(
        pk__in=last, at__gte=facts.now - _DAY, cause__in=[RECONCILIATION, NIGHTLY]
    )
    times = list(drifted.values_list("at", flat=True))
    return Finding(shown(len(times)), list_url(StatusChange), newest=max(times)) if times else None


def _failed_jobs(facts: Facts) -> Finding | None:
    failed = ProcrastinateJob.objects.filter(status="failed").order_by("-id")
    ids = list(failed.values_list("pk", flat=True)[: figures.MOST])
    if not ids:
        return None
    ends = ProcrastinateEvent.objects.filter(job_id__in=ids, type="failed")
    newest = ends.aggregate(at=Max("at"))["at"] or facts.now
    return Finding(
        shown(len(ids)), list_url(ProcrastinateJob, status__exact="failed"), newest=newest
    )


def _counted(
    rows: Callable[[Facts], QuerySet[Any]], **filters: str
) -> Callable[[Facts], Finding | None]:
    """Return a condition that is met if there are rows; the filters are those of their list."""

    def find(facts: Facts) -> Finding | None:
        found = rows(facts)
        count = capped(found)
        return Finding(shown(count), list_url(found.model, **filters)) if count else None

    return find


# In the order of the start page: processes and calls first, then what waits, then money.
CONDITIONS = (
    Condition(
        "no-engine",
        Severity.CRITICAL,
        "No engine accepts calls",
        "no engine accepts calls",
        "If none is running, callers hear an error from Twilio; if all are draining, a busy "
        "signal.",
        "Start an engine.",
        "processes",
        _no_engine,
        is_of_processes=True,
    ),
    Condition(
        "no-worker",
        Severity.CRITICAL,
        "No worker is running",
        "no worker is running",
        "Callbacks, billing and email wait until a worker runs.",
        "Start a worker, and look at the log of the last one.",
        "processes",
        _no_worker,
        is_of_processes=True,
    ),
    Condition(
        "unserved-queues",
        Severity.CRITICAL,
        "A queue has no worker",
        "queues without a worker",
        "Workers are running, but none with these queues in `--lanes`.",
        "Start a worker for them, or one for all queues.",
        "processes",
        _unserved_queues,
        is_of_processes=True,
    ),
    Condition(
        "silent-processes",
        Severity.WARNING,
        "A process stopped without a shutdown",
        "processes fell silent in the last 24 hours",
        "A process was killed, has crashed, or cannot reach the database.",
        "Look at its log and at its host: it may have run out of memory.",
        "processes",
        _silent_processes,
        is_of_processes=True,
    ),
    Condition(
        "versions",
        Severity.WARNING,
        "Several versions are running",
        "versions have been running side by side for over an hour",
        "A deploy has replaced only a part of the processes.",
        "Replace the processes that run the earlier version.",
        "processes",
        _versions,
        is_of_processes=True,
    ),
    Condition(
        "engine-lost",
        Severity.CRITICAL,
        "Calls were lost with their engine",
        "calls lost with their engine in the last 24 hours",
        "An engine stopped while it held calls.",
        "Look at its host and at its log.",
        "crashes",
        _crashes(ErrorCode.ENGINE_LOST),
        one="call lost with its engine in the last 24 hours",
    ),
    Condition(
        "internal-error",
        Severity.CRITICAL,
        "Calls ended with an internal error",
        "calls ended by an internal error in the last 24 hours",
        "There is a fault in Switchhook.",
        "Look for the call's ID in the engine's log.",
        "crashes",
        _crashes(ErrorCode.INTERNAL_ERROR),
        one="call ended by an internal error in the last 24 hours",
    ),
    Condition(
        "failing-calls",
        Severity.CRITICAL,
        "Many calls fail",
        "of the last calls failed",
        "At least 5% of 20 or more calls in the last 24 hours failed.",
        "Look at *Failed calls* on the start page: one code or one account often explains it.",
        "failed-calls",
        _failing_calls,
    ),
    Condition(
        "rejected-calls",
        Severity.INFO,
        "Many calls are rejected",
        "of the last calls were rejected",
        "At least 25% of 20 or more calls in the last 24 hours were rejected, by a customer's "
        "backend or because of an account's status or limits.",
        "Look for a single account, and tell the customer if that is not intended.",
        "failed-calls",
        _rejected_calls,
    ),
    Condition(
        "callbacks-behind",
        Severity.CRITICAL,
        "Callbacks are late",
        "behind on callbacks",
        "The oldest callback has been due for that long, and no worker sends it.",
        "Start a worker, or more of them.",
        "jobs",
        _behind_on_callbacks,
    ),
    Condition(
        "jobs-behind",
        Severity.CRITICAL,
        "Jobs are late",
        "behind on jobs",
        "The oldest job has been due for that long and has not started.",
        "Start a worker, or more of them.",
        "jobs",
        _behind_on_jobs,
    ),
    Condition(
        "statuses-unconfirmed",
        Severity.WARNING,
        "Account statuses are unconfirmed",
        "accounts with a status unconfirmed for over an hour",
        "Stripe has not been asked for the status of an account yet, or did not respond.",
        "Check that a worker is running, and that Stripe accepts your key.",
        "status-checks",
        _counted(
            lambda facts: StatusCheck.objects.unsettled().filter(
                marked_at__lt=facts.now - _DOUBTED_TOO_LONG
            ),
            in_doubt="yes",
        ),
        one="account with a status unconfirmed for over an hour",
    ),
    Condition(
        "statuses-drifted",
        Severity.WARNING,
        "Stripe's events do not arrive",
        "statuses that only the schedule corrected in the last 24 hours",
        "An account's status differed from its subscription, and no event from Stripe said so.",
        "Check the webhook endpoint at Stripe, or run `manage.py setup_stripe` again.",
        "status-checks",
        _drifted_statuses,
        one="status that only the schedule corrected in the last 24 hours",
    ),
    Condition(
        "minutes-behind",
        Severity.WARNING,
        "Minutes are not reported to Stripe",
        "behind on minutes for Stripe",
        "The oldest minutes that Stripe has not accepted are that old.",
        "Look at *last error* of the pending meter events.",
        "meter-problems",
        _behind_on_minutes,
    ),
    Condition(
        "meter-problems",
        Severity.WARNING,
        "An invoice may be wrong",
        "meter problems",
        "An invoice may have too few minutes, or too many.",
        "Look at each problem, and mark it as resolved.",
        "meter-problems",
        _counted(lambda _: MeterProblem.objects.filter(resolved_at=None), open="yes"),
        one="meter problem",
    ),
    Condition(
        "meter-events-rejected",
        Severity.WARNING,
        "Stripe rejects minutes",
        "meter events rejected by Stripe",
        "Stripe did not accept the minutes of some calls, so they are not billed.",
        "Remove the cause, and send the events again.",
        "meter-problems",
        _counted(
            lambda _: MeterEvent.objects.filter(state=MeterEvent.State.REFUSED),
            state__exact=MeterEvent.State.REFUSED,
        ),
        one="meter event rejected by Stripe",
    ),
    Condition(
        "callbacks-failing",
        Severity.INFO,
        "Callbacks keep failing",
        "callbacks that keep failing",
        "Four or more attempts to deliver a callback have failed.",
        "Tell the customer: the fault is with their backend.",
        "callbacks-that-keep-failing",
        _counted(
            lambda _: CallbackDelivery.objects.filter(
                state=CallbackDelivery.State.PENDING, attempts__gte=_RETRIED_OFTEN
            ),
            state__exact=CallbackDelivery.State.PENDING,
        ),
        one="callback that keeps failing",
    ),
    Condition(
        "jobs-failed",
        Severity.WARNING,
        "Jobs have failed",
        "jobs failed in the last 3 days",
        "A background job ended with an error.",
        "Look for the job's number in the worker's log.",
        "jobs",
        _failed_jobs,
        one="job failed in the last 3 days",
    ),
)
BY_KEY: Mapping[str, Condition] = {condition.key: condition for condition in CONDITIONS}


def absolute(path: str) -> str:
    """Return the address of one of our pages, for a message."""
    return f"{settings.PUBLIC_URL}{path}"
