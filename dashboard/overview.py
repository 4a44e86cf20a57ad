"""The overview: next steps, this month's figures, the last days, and calls in progress.

Figures come from stored totals (``usage.models``), so the cost of the page does not grow with the
number of calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpResponse
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.models import Account
from core.engine_urls import engine_voice_url
from core.money import dollars, price
from dashboard.access import PageRequest, for_customer
from dashboard.call_words import milliseconds
from dashboard.checklist import checklist_of
from dashboard.live_calls import live_calls
from dashboard.rendering import STATUS_TONES, dashboard_page
from telephony.call_days import Latencies, NumberTurns, busiest_numbers, days_since
from telephony.models import CallDay, PhoneNumber
from telephony.retirements import in_use
from usage.models import DailyUsage, TotalUsage
from usage.spending import spending_of

DAYS = 30
MOST_NUMBERS = 10


@dataclass(frozen=True, slots=True)
class Day:
    """A day's calls, in the account's time zone, and the minutes that were billed for that UTC day.

    Latencies are in milliseconds; None without any.
    """

    day: date
    calls: CallDay
    minutes: int

    @property
    def timestamp(self) -> int:
        return int(datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC).timestamp())

    @property
    def failure_rate(self) -> float | None:
        """Return the percentage of its calls that failed."""
        return 100 * self.calls.failed / self.calls.calls if self.calls.calls else None

    @property
    def url(self) -> str:
        """Return the list of these calls."""
        return f"{reverse('calls')}?since={self.day}&until={self.day}"

    @property
    def cells(self) -> list[str]:
        """Return the columns of the table of days."""
        calls = self.calls
        counts = (calls.calls, calls.completed, calls.unanswered, calls.rejected, calls.failed)
        latencies = [
            each.percentile(p) for each in (self.on_call_start, self.turns) for p in (0.5, 0.95)
        ]
        return [
            *(f"{count:,}" for count in counts),
            *map(milliseconds, latencies),
            f"{self.minutes:,}",
        ]

    @property
    def on_call_start(self) -> Latencies:
        return Latencies(self.calls.on_call_start)

    @property
    def turns(self) -> Latencies:
        return Latencies(self.calls.turns)


@dataclass(frozen=True, slots=True)
class NumberRow:
    """A number in the table of response times; ``name`` is "" if it has none."""

    turns: NumberTurns
    name: str
    since: date

    @property
    def url(self) -> str:
        """Return the list of its calls."""
        return f"{reverse('calls')}?{urlencode({'number': self.turns.number, 'since': self.since})}"

    @property
    def cells(self) -> list[str]:
        latencies = (self.turns.latencies.percentile(p) for p in (0.5, 0.95))
        return [f"{self.turns.responses:,}", *map(milliseconds, latencies)]


@for_customer
@require_safe
def overview(request: PageRequest) -> HttpResponse:
    account = request.user
    total = TotalUsage.objects.total_of(account)
    context = {
        "account": account,
        "status": account.effective_status,
        "badge": STATUS_TONES[account.effective_status],
        "steps": checklist_of(account),
        "voice_url": engine_voice_url(),
        "total": total,
        "limit": _limit_reached(account),
        "retirements": in_use(account),
        "base": dollars(settings.MONTHLY_BASE),
        "rate": price(settings.PER_MINUTE_RATE),
        **_figures(account, timezone.now().astimezone(UTC).date()),
        **live_calls(account),
    }
    return dashboard_page(request, "overview", "dashboard/overview.html", context)


def _figures(account: Account, today: date) -> dict[str, Any]:
    """Return the figures of this month and of the last days, from at most 31 rows of two tables
    and, for each number, of a third.

    :param today: the UTC day, by which minutes are billed.
    """
    here = timezone.localdate()
    month, first = here.replace(day=1), here - timedelta(days=DAYS - 1)
    calls = days_since(account, min(month, first))
    in_month = [each for day, each in calls.items() if day >= month]
    used = list(DailyUsage.objects.of(account).since(min(today.replace(day=1), first)))
    minutes = sum(each.minutes for each in used if each.day >= today.replace(day=1))
    by_day = {each.day: each.minutes for each in used}
    days = [
        Day(day, calls.get(day) or CallDay.empty(account, day), by_day.get(day, 0))
        for day in (first + timedelta(days=number) for number in range(DAYS))
    ]
    return {
        "month": here,
        "billed_month": today,
        "month_calls": sum(each.calls for each in in_month),
        "month_failed": sum(each.failed for each in in_month),
        "month_minutes": minutes,
        "month_cost": dollars(minutes * settings.PER_MINUTE_RATE),
        "days": days,
        "charts": _charts(days),
        "failed_url": f"{reverse('calls')}?outcome=failed&since={month}",
        "numbers": _numbers(account, first),
        "most_numbers": MOST_NUMBERS,
        "has_calls": any(each.calls.calls or each.minutes for each in days),
    }


def _numbers(account: Account, first: date) -> list[NumberRow]:
    """Return the response times of the busiest numbers, with at most three queries."""
    found = busiest_numbers(account, first, most=MOST_NUMBERS)
    own = PhoneNumber.objects.of(account).filter(phone_number__in=[each.number for each in found])
    names = dict(own.values_list("phone_number", "name")) if found else {}
    return [NumberRow(each, names.get(each.number, ""), first) for each in found]


def _charts(days: Sequence[Day]) -> list[dict[str, Any]]:
    """Return each chart's title and what ``charts.js`` draws: series with one value for a day."""
    timestamps = [each.timestamp for each in days]

    def chart(title: str, unit: str, kind: str, *series: dict[str, Any]) -> dict[str, Any]:
        data = {"days": timestamps, "unit": unit, "kind": kind, "series": series}
        return {"title": title, "data": json.dumps(data)}

    def series(label: str, color: str, value: Callable[[Day], float | None]) -> dict[str, Any]:
        return {"label": label, "color": color, "values": [value(each) for each in days]}

    def latencies(title: str, of: Callable[[Day], Latencies]) -> dict[str, Any]:
        half = series("p50", "--accent", lambda day: of(day).percentile(0.5))
        most = series("p95", "--note", lambda day: of(day).percentile(0.95))
        return chart(title, "ms", "lines", half, most)

    return [
        chart(
            "Calls by outcome",
            "calls",
            "stack",
            series("Completed", "--good", lambda day: day.calls.completed),
            series("Not answered", "--quiet", lambda day: day.calls.unanswered),
            series("Rejected", "--note", lambda day: day.calls.rejected),
            series("Failed", "--bad", lambda day: day.calls.failed),
        ),
        chart(
            "Failed calls", "%", "lines", series("Failed", "--bad", lambda day: day.failure_rate)
        ),
        latencies("Response time of onCallStart", lambda day: day.on_call_start),
        latencies("Response time of the agent, tools included", lambda day: day.turns),
        chart(
            "Billed minutes (UTC days)",
            "minutes",
            "stack",
            series("Minutes", "--accent", lambda day: day.minutes),
        ),
    ]


def _limit_reached(account: Account) -> str:
    """Return the spending limit if it is reached and blocks new calls, else ""."""
    spending = spending_of(account)
    return dollars(spending.limit) if spending.limit is not None and spending.is_reached else ""


urlpatterns = [path("dashboard", overview, name="overview")]
