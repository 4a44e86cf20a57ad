"""The start page of the admin: what needs attention, the failed calls of a day, today's figures.

No figure scans the history: they come from today's records, from indexes, and, for failed jobs,
from the jobs of three days. Counts stop at a limit.
"""

from __future__ import annotations

from datetime import UTC, datetime, time

from django.db.models import Count, Q, Sum
from django.utils import timezone

from accounts.models import Account
from core.ids import first_id_of
from operations.conditions import CONDITIONS, Facts
from operations.figures import Figure, capped, list_url, shown
from telephony.models import Call
from usage.models import UsageRecord


def needing_attention(facts: Facts) -> list[Figure]:
    """Return what an operator should look into."""
    return [
        condition.figure(finding)
        for condition in CONDITIONS
        if (finding := condition.find(facts)) is not None
    ]


def todays_figures() -> list[Figure]:
    """Return today's figures (UTC) and the number of calls in progress."""
    midnight = datetime.combine(timezone.now().date(), time(), UTC)
    used = UsageRecord.objects.filter(id__gte=first_id_of(midnight)).aggregate(
        calls=Count("id", filter=Q(part=1)), minutes=Sum("minutes", default=0)
    )
    return [
        Figure(
            "calls in progress",
            shown(capped(Call.objects.live())),
            list_url(Call, outcome="in-progress"),
        ),
        Figure("calls ended today", f"{used['calls']:,}", list_url(UsageRecord)),
        Figure("minutes today", f"{used['minutes']:,}", list_url(UsageRecord)),
        Figure(
            "new accounts today",
            shown(capped(Account.objects.filter(id__gte=first_id_of(midnight)))),
            list_url(Account),
        ),
    ]
