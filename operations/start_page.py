"""The start page of the operators: today's figures, and what needs somebody's attention.

No number is read from the history: they come from today's records, from indexes, and that of failed
jobs from the jobs of three days. What may be many is counted to a limit.
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
# Marks that are older should have been settled: a check takes seconds, its retries minutes.
_DOUBTED_TOO_LONG = timedelta(hours=1)
_RETRIED_OFTEN = 4  # half an hour of failures
_WAITED_TOO_LONG = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, what it counts, and the page that lists it."""

    label: str
    count: int
    url: str = ""

    @property
    def text(self) -> str:
        return f"{MOST:,} or more" if self.count == MOST else f"{self.count:,}"


def todays_figures() -> list[Figure]:
    """What has happened today, in UTC, and what is going on."""
    midnight = datetime.combine(timezone.now().date(), time(), UTC)
    used = UsageRecord.objects.filter(id__gte=first_id_of(midnight)).aggregate(
        calls=Count("id", filter=Q(part=1)), minutes=Sum("minutes", default=0)
    )
    return [
        Figure("calls in progress", _capped(Call.objects.live()), _list(Call, live="yes")),
        Figure("calls ended today", used["calls"], _list(UsageRecord)),
        Figure("minutes today", used["minutes"], _list(UsageRecord)),
        Figure(
            "accounts new today",
            _capped(Account.objects.filter(id__gte=first_id_of(midnight))),
            _list(Account),
        ),
    ]


def needing_attention() -> list[Figure]:
    """What an operator should look at, without what is as it should be."""
    now = timezone.now()
    found = [
        Figure(
            "accounts in doubt for over an hour",
            _capped(StatusCheck.objects.unsettled().filter(marked_at__lt=now - _DOUBTED_TOO_LONG)),
            _list(StatusCheck, in_doubt="yes"),
        ),
        Figure(
            "meter problems",
            _capped(MeterProblem.objects.filter(resolved_at=None)),
            _list(MeterProblem, open="yes"),
        ),
        Figure(
            "minutes that Stripe refused",
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
            "jobs that failed in the past days",
            _capped(ProcrastinateJob.objects.filter(status="failed")),
            _list(ProcrastinateJob, status__exact="failed"),
        ),
        Figure(
            "jobs that no worker takes",
            _capped(_left_waiting(now)),
            _list(ProcrastinateJob, status__exact="todo"),
        ),
    ]
    return [figure for figure in found if figure.count]


def _left_waiting(now: datetime) -> QuerySet[ProcrastinateJob]:
    """Jobs that were due, and stand where they stood: is a worker running?"""
    return ProcrastinateJob.objects.filter(status="todo", scheduled_at__lt=now - _WAITED_TOO_LONG)


def _capped(rows: QuerySet[Any]) -> int:
    return rows.order_by()[:MOST].count()


def _list(model: Any, **filters: str) -> str:
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{urlencode(filters)}" if filters else url
