"""The start page of the admin: today's figures, and what needs attention.

No figure scans the history: they come from today's records, from indexes, and, for failed jobs,
from the jobs of three days. Counts stop at a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Q, QuerySet, Sum
from django.urls import reverse
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import Account
from billing.models import MeterEvent, MeterProblem, StatusCheck
from core.ids import first_id_of
from telephony.models import Call, CallbackDelivery
from usage.models import UsageRecord

MOST = 1000
# Older checks should be settled: a check takes seconds, its retries minutes.
_DOUBTED_TOO_LONG = timedelta(hours=1)
_RETRIED_OFTEN = 4  # half an hour of failures
_WAITED_TOO_LONG = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Figure:
    """A count, its label, and the page that lists what was counted."""

    label: str
    count: int
    url: str = ""

    @property
    def text(self) -> str:
        return f"{MOST:,}+" if self.count == MOST else f"{self.count:,}"


def todays_figures() -> list[Figure]:
    """Return today's figures (UTC) and the number of calls in progress."""
    midnight = datetime.combine(timezone.now().date(), time(), UTC)
    used = UsageRecord.objects.filter(id__gte=first_id_of(midnight)).aggregate(
        calls=Count("id", filter=Q(part=1)), minutes=Sum("minutes", default=0)
    )
    return [
        Figure(
            "calls in progress", _capped(Call.objects.live()), _list(Call, outcome="in-progress")
        ),
        Figure("calls ended today", used["calls"], _list(UsageRecord)),
        Figure("minutes today", used["minutes"], _list(UsageRecord)),
        Figure(
            "new accounts today",
            _capped(Account.objects.filter(id__gte=first_id_of(midnight))),
            _list(Account),
        ),
    ]


def needing_attention() -> list[Figure]:
    """Return the figures that an operator should look into: those that are not 0."""
    now = timezone.now()
    found = [
        Figure(
            "accounts with a status unconfirmed for over an hour",
            _capped(StatusCheck.objects.unsettled().filter(marked_at__lt=now - _DOUBTED_TOO_LONG)),
            _list(StatusCheck, in_doubt="yes"),
        ),
        Figure(
            "meter problems",
            _capped(MeterProblem.objects.filter(resolved_at=None)),
            _list(MeterProblem, open="yes"),
        ),
        Figure(
            "meter events rejected by Stripe",
            _capped(MeterEvent.objects.filter(state=MeterEvent.State.REFUSED)),
            _list(MeterEvent, state__exact=MeterEvent.State.REFUSED),
        ),
        Figure(
            "callbacks that keep failing",
            _capped(
                CallbackDelivery.objects.filter(
                    state=CallbackDelivery.State.PENDING, attempts__gte=_RETRIED_OFTEN
                )
            ),
            _list(CallbackDelivery, state__exact=CallbackDelivery.State.PENDING),
        ),
        Figure(
            "jobs failed in the last 3 days",
            _capped(ProcrastinateJob.objects.filter(status="failed")),
            _list(ProcrastinateJob, status__exact="failed"),
        ),
        Figure(
            "overdue jobs",
            _capped(_left_waiting(now)),
            _list(ProcrastinateJob, status__exact="todo"),
        ),
    ]
    return [figure for figure in found if figure.count]


def _left_waiting(now: datetime) -> QuerySet[ProcrastinateJob]:
    """Return jobs that are overdue, perhaps because no worker is running."""
    return ProcrastinateJob.objects.filter(status="todo", scheduled_at__lt=now - _WAITED_TOO_LONG)


def _capped(rows: QuerySet[Any]) -> int:
    return rows.order_by()[:MOST].count()


def _list(model: Any, **filters: str) -> str:
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{urlencode(filters)}" if filters else url
