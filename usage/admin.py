"""The admin's read-only pages of usage, which customers are charged for."""

from __future__ import annotations

from django.contrib import admin

from core.admin import ReadOnlyAdmin
from core.money import dollars
from usage.models import DailyUsage, SpendingLimit, TotalUsage, UsageRecord


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin):
    list_display = ["call_sid", "account", "direction", "minutes", "cost", "created_at"]
    list_filter = ["direction"]
    list_select_related = ["account"]
    search_fields = ["call_sid__exact"]
    search_help_text = "Search by CallSid."
    ordering = ["-id"]  # by time of creation, on the primary key's index
    ordering_of_account = ("-created_at", "-id")

    @admin.display(description="Total cost")
    def cost(self, record: UsageRecord) -> str:
        return dollars(record.total_cost)


@admin.register(DailyUsage)
class DailyUsageAdmin(ReadOnlyAdmin):
    list_display = ["day", "account", "calls", "minutes"]
    list_select_related = ["account"]
    search_fields = ["account__email"]
    ordering = ["-id"]


@admin.register(TotalUsage)
class TotalUsageAdmin(ReadOnlyAdmin):
    list_display = ["account", "calls", "minutes"]
    list_select_related = ["account"]
    search_fields = ["account__email"]
    ordering = ["account_id"]


@admin.register(SpendingLimit)
class SpendingLimitAdmin(ReadOnlyAdmin):
    list_display = ["account", "amount", "month", "told_percent"]
    list_select_related = ["account"]
    search_fields = ["account__email"]
    ordering = ["account_id"]
