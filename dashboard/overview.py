"""The overview: next steps, this month's figures, the last days, and calls in progress.

Figures come from stored totals (``usage.models``), so the cost of the page does not grow with the
number of calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.models import Account
from core.engine_urls import engine_voice_url
from core.money import dollars, price
from core.pages import page
from dashboard.access import PageRequest, for_customer
from dashboard.checklist import checklist_of
from dashboard.rendering import STATUS_TONES, dashboard_page
from telephony.models import Call
from usage.models import DailyUsage, TotalUsage
from usage.spending import spending_of

DAYS = 30
# The most calls in progress that are listed. An account may have more.
LIVE_AT_MOST = 50


@dataclass(frozen=True, slots=True)
class Day:
    """A UTC day's calls and minutes."""

    day: date
    calls: int = 0
    minutes: int = 0

    @property
    def timestamp(self) -> int:
        return int(datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC).timestamp())


@for_customer
@require_safe
def overview(request: PageRequest) -> HttpResponse:
    account = request.user
    total = TotalUsage.objects.total_of(account)
    context = {
        "account": account,
        "status": account.effective_status,
        "badge": STATUS_TONES[account.effective_status],
        # Minutes count from the moment a call is connected, so a call that has some succeeded.
        "steps": [] if total.minutes else checklist_of(account),
        "voice_url": engine_voice_url(),
        "total": total,
        "limit": _limit_reached(account),
        "base": dollars(settings.MONTHLY_BASE),
        "rate": price(settings.PER_MINUTE_RATE),
        **_figures(account, timezone.now().date()),
        **_live_calls(account),
    }
    return dashboard_page(request, "overview", "dashboard/overview.html", context)


@for_customer
@require_safe
def live(request: PageRequest) -> HttpResponse:
    """The calls in progress, as the part of the page that refreshes itself."""
    if not request.htmx:
        return redirect("overview")
    return page(request, "dashboard/live_calls.html", _live_calls(request.user))


def _figures(account: Account, today: date) -> dict[str, Any]:
    """Return the figures of this month and of the last days, from at most 31 rows."""
    month, first = today.replace(day=1), today - timedelta(days=DAYS - 1)
    known = [
        Day(row.day, row.calls, row.minutes)
        for row in DailyUsage.objects.of(account).since(min(month, first))
    ]
    in_month = [each for each in known if each.day >= month]
    minutes = sum(each.minutes for each in in_month)
    days = _every_day(known, first)
    return {
        "month": today,
        "month_calls": sum(each.calls for each in in_month),
        "month_minutes": minutes,
        "month_cost": dollars(minutes * settings.PER_MINUTE_RATE),
        "days": days,
        "chart": json.dumps(
            {
                "days": [each.timestamp for each in days],
                "calls": [each.calls for each in days],
                "minutes": [each.minutes for each in days],
            }
        ),
        "has_calls": any(each.calls for each in days),
    }


def _every_day(known: Iterable[Day], first: date) -> list[Day]:
    """Return every day from the first one on, including days without calls."""
    by_day = {each.day: each for each in known}
    days = (first + timedelta(days=number) for number in range(DAYS))
    return [by_day.get(day) or Day(day) for day in days]


def _limit_reached(account: Account) -> str:
    """Return the spending limit if it is reached and blocks new calls, else ""."""
    spending = spending_of(account)
    return dollars(spending.limit) if spending.limit is not None and spending.is_reached else ""


def _live_calls(account: Account) -> dict[str, Any]:
    calls = Call.objects.of(account).live().order_by("-created_at", "-id")
    found = list(calls[: LIVE_AT_MOST + 1])
    return {"live_calls": found[:LIVE_AT_MOST], "has_more": len(found) > LIVE_AT_MOST}


urlpatterns = [
    path("dashboard", overview, name="overview"),
    path("dashboard/live", live, name="live-calls"),
]
