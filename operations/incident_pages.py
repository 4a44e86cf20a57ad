"""The admin's pages of incidents."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from core.admin import ReadOnlyAdmin, ReadOnlyInline
from operations.conditions import BY_KEY
from operations.models import Incident, Notice
from telephony.notices import plain


class OpenFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open"), ("no", "Over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        choice = self.value()
        return queryset.filter(ended_at__isnull=choice == "yes") if choice else queryset


class NoticeInline(ReadOnlyInline):
    model = Notice
    verbose_name_plural = "messages to operators"
    fields = ["event", "channel", "created_at", "sent_at", "attempts", "problem"]
    ordering = ["id"]


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = ["began_at", "title", "text", "severity", "ended_at"]
    list_filter = [OpenFilter]
    ordering = ["-id"]
    fields = [
        "title",
        ("text", "severity"),
        ("meaning", "remedy"),
        ("began_at", "seen_at", "ended_at"),
        ("confirmed_at", "clear_since"),
    ]
    readonly_fields = ["title", "meaning", "remedy"]
    inlines = [NoticeInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        """Leave out what has not lasted long enough to be one."""
        return super().get_queryset(request).exclude(confirmed_at=None)

    @admin.display(description="incident")
    def title(self, incident: Incident) -> str:
        condition = BY_KEY.get(incident.key)
        return condition.title if condition else incident.key

    @admin.display(description="what it means")
    def meaning(self, incident: Incident) -> str:
        condition = BY_KEY.get(incident.key)
        return plain(condition.meaning) if condition else "-"

    @admin.display(description="what to do")
    def remedy(self, incident: Incident) -> str:
        condition = BY_KEY.get(incident.key)
        if condition is None:
            return "-"
        link = '{} <a href="{}">The guide</a> says more.'
        return format_html(link, plain(condition.remedy), condition.guide_url)
