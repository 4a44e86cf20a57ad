"""The API's endpoints for usage."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from core.api import as_number, page_of, part_of
from core.schema import PAGE, endpoint
from usage.models import DailyUsage, TotalUsage, UsageRecord
from usage.serializers import (
    CurrentUsageSerializer,
    UsagePageSerializer,
    UsageRecordSerializer,
)


class UsageViewSet(ViewSet):
    """Reads stored totals and one page of an index, so the cost does not grow with the history."""

    @endpoint(
        "listUsage",
        "List ended calls and their costs",
        description="The newest first. A call that was charged as `engine_lost` and had continued "
        "has another record for the rest.",
        parameters=PAGE,
        answers={200: UsagePageSerializer},
    )
    def list(self, request: AccountRequest) -> Response:
        """``GET /api/usage``: the ended calls, newest first."""
        limit, offset = page_of(request)
        records = UsageRecord.objects.of(request.user)
        page = part_of(records.newest_first(), offset, limit)
        calls = TotalUsage.objects.total_of(request.user).calls
        return Response(
            {
                "records": UsageRecordSerializer(page, many=True).data,
                "total": calls + records.further_parts().count(),
                "limit": limit,
                "offset": offset,
            }
        )

    @endpoint(
        "getCurrentUsage",
        "Get the usage of this month and of all time",
        answers={200: CurrentUsageSerializer},
    )
    @action(detail=False)
    def current(self, request: AccountRequest) -> Response:
        """``GET /api/usage/current``: this month (UTC) and all time."""
        month = (
            DailyUsage.objects.of(request.user)
            .month_of(timezone.now().date())
            .aggregate(calls=Sum("calls", default=0), minutes=Sum("minutes", default=0))
        )
        total = TotalUsage.objects.total_of(request.user)
        rate = settings.PER_MINUTE_RATE
        return Response(
            {
                "currentMonth": month | {"estimatedCost": as_number(month["minutes"] * rate)},
                "allTime": {"calls": total.calls, "minutes": total.minutes},
                "perMinuteRate": as_number(rate),
                "monthlyBase": as_number(settings.MONTHLY_BASE),
            }
        )
