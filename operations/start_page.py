"""The start page of the admin: what needs attention, the failed calls of a day, today's figures.

No figure scans the history: they come from today's records, from indexes, and, for failed jobs,
from the jobs of three days. Counts stop at a limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.urls import reverse
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from accounts.models import Account
from billing.models import MeterEvent, MeterProblem, StatusCheck
from core.ids import first_id_of
from telephony.engine.codes import ErrorCode, outcome_of
from telephony.models import Call, CallbackDelivery
from usage.models import UsageRecord

MOST = 1000
# Older checks should be settled: a check takes seconds, its retries minutes.
_DOUBTED_TOO_LONG = timedelta(hours=1)
_RETRIED_OFTEN = 4  # half an hour of failures
_WAITED_TOO_LONG = timedelta(minutes=10)


# From here on, the share of failed calls needs attention; few calls say nothing.
_TOO_MANY_FAIL = 0.05
_ENOUGH_CALLS = 20
_CRASHES = {
    ErrorCode.ENGINE_LOST: "calls lost with their engine in the last 24 hours",
    ErrorCode.INTERNAL_ERROR: "calls ended by an internal error in the last 24 hours",
}
_MOST_ACCOUNTS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its label, and the page that lists what was counted."""

    label: str
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed calls of the last 24 hours, the newest 1,000 of them.

    ``causes`` counts by the filter of the list: ``("error_code", "engine_lost")``, or the
    ``ended_reason`` of a call without a code. ``share`` is the part of the last 1,000 calls that
    failed, from 0 to 1.
    """

    causes: Counter[tuple[str, str]]
    accounts: Counter[str]
    share: float
    calls: int

    @property
    def by_code(self) -> list[Figure]:
        return [
            Figure(value, _shown(count), _list(Call, outcome="failed", **{name: value}))
            for (name, value), count in self.causes.most_common()
        ]

    @property
    def by_account(self) -> list[Figure]:
        """The accounts with the most failed calls, by name."""
        most = self.accounts.most_common(_MOST_ACCOUNTS)
        known = Account.objects.in_bulk([id for id, _ in most])
        return [
            Figure(known[id].email, _shown(count), _list(Call, outcome="failed", q=id))
            for id, count in most
            if id in known
        ]

    @property
    def rate(self) -> str:
        """The share of failed calls, such as ``2.5% of the last 1,000 calls failed``."""
        return f"{self.share:.1%} of the last {self.calls:,} calls failed"

    @property
    def needs_attention(self) -> bool:
        return self.calls >= _ENOUGH_CALLS and self.share >= _TOO_MANY_FAIL


def failures() -> Failures:
    since = Call.objects.filter(id__gte=first_id_of(timezone.now() - timedelta(days=1)))
    ended = since.exclude(ended_reason="").order_by("-id")
    failed = ended.that_came_out("failed").values_list("error_code", "ended_reason", "account_id")
    causes, accounts = Counter[tuple[str, str]](), Counter[str]()
    for code, reason, account_id in failed[:MOST]:
        causes[("error_code", code) if code else ("ended_reason", reason)] += 1
        accounts[account_id] += 1
    last = [outcome_of(*ends) for ends in ended.values_list("ended_reason", "error_code")[:MOST]]
    share = last.count("failed") / len(last) if last else 0.0
    return Failures(causes, accounts, share, len(last))


def todays_figures() -> list[Figure]:
    """Return today's figures (UTC) and the number of calls in progress."""
    midnight = datetime.combine(timezone.now().date(), time(), UTC)
    used = UsageRecord.objects.filter(id__gte=first_id_of(midnight)).aggregate(
        calls=Count("id", filter=Q(part=1)), minutes=Sum("minutes", default=0)
    )
    return [
        Figure(
            "calls in progress",
            _shown(_capped(Call.objects.live())),
            _list(Call, outcome="in-progress"),
        ),
        Figure("calls ended today", f"{used['calls']:,}", _list(UsageRecord)),
        Figure("minutes today", f"{used['minutes']:,}", _list(UsageRecord)),
        Figure(
            "new accounts today",
            _shown(_capped(Account.objects.filter(id__gte=first_id_of(midnight)))),
            _list(Account),
        ),
    ]


def needing_attention(failures: Failures) -> list[Figure]:
    """Return what an operator should look into: calls first, then what waits, then money."""
    now = timezone.now()
    return [
        *_crashes(failures),
        *([_share(failures)] if failures.needs_attention else []),
        *_waiting(now),
        *(
            Figure(label, _shown(count), url)
            for label, rows, url in _to_be_counted(now)
            if (count := _capped(rows))
        ),
    ]


def _crashes(failures: Failures) -> Iterator[Figure]:
    for code, label in _CRASHES.items():
        if count := failures.causes["error_code", code]:
            yield Figure(label, _shown(count), _list(Call, error_code=code))


def _share(failures: Failures) -> Figure:
    label = f"of the last {failures.calls:,} calls failed"
    return Figure(label, f"{failures.share:.1%}", _list(Call, outcome="failed"))


def _waiting(now: datetime) -> Iterator[Figure]:
    """Yield how long the oldest callback and the oldest job have been overdue, if they are."""
    pending = CallbackDelivery.State.PENDING
    callbacks = CallbackDelivery.objects.ready().filter(due_at__lt=now - _WAITED_TOO_LONG)
    due_at = callbacks.order_by("due_at").values_list("due_at", flat=True).first()
    if due_at:
        url = _list(CallbackDelivery, state__exact=pending)
        yield Figure("behind on callbacks", _age(now - due_at), url)
    times = [time for time in (_oldest_scheduled(now), _oldest_immediate(now)) if time]
    if times:
        url = _list(ProcrastinateJob, status__exact="todo")
        yield Figure("behind on jobs", _age(now - min(times)), url)


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


def _to_be_counted(now: datetime) -> list[tuple[str, QuerySet[Any], str]]:
    """Return labels, what is counted, and the pages that list it."""
    pending = CallbackDelivery.State.PENDING
    doubted = StatusCheck.objects.unsettled().filter(marked_at__lt=now - _DOUBTED_TOO_LONG)
    return [
        (
            "accounts with a status unconfirmed for over an hour",
            doubted,
            _list(StatusCheck, in_doubt="yes"),
        ),
        (
            "meter problems",
            MeterProblem.objects.filter(resolved_at=None),
            _list(MeterProblem, open="yes"),
        ),
        (
            "meter events rejected by Stripe",
            MeterEvent.objects.filter(state=MeterEvent.State.REFUSED),
            _list(MeterEvent, state__exact=MeterEvent.State.REFUSED),
        ),
        (
            "callbacks that keep failing",
            CallbackDelivery.objects.filter(state=pending, attempts__gte=_RETRIED_OFTEN),
            _list(CallbackDelivery, state__exact=pending),
        ),
        (
            "jobs failed in the last 3 days",
            ProcrastinateJob.objects.filter(status="failed"),
            _list(ProcrastinateJob, status__exact="failed"),
        ),
    ]


def _age(time: timedelta) -> str:
    """Return a time in its largest whole unit: ``25 min``, ``3 h``, ``2 days``."""
    minutes = time // timedelta(minutes=1)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def _shown(count: int) -> str:
    return f"{MOST:,}+" if count == MOST else f"{count:,}"


def _capped(rows: QuerySet[Any]) -> int:
    return rows.order_by()[:MOST].count()


def _list(model: Any, **filters: str) -> str:
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{urlencode(filters)}" if filters else url
