"""The admin's pages of incidents."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from core.admin import ReadOnlyAdmin
from core.zones import in_utc
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


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = ["began_at", "title", "text", "severity", "ended_at"]
    list_filter = [OpenFilter]
    ordering = ["-began_at"]
    fields = [
        "title",
        ("text", "severity"),
        ("meaning", "remedy", "guide"),
        ("began_at", "seen_at", "ended_at"),
        ("confirmed_at", "clear_since"),
        "messages",
    ]
    readonly_fields = ["title", "meaning", "remedy", "guide", "messages"]

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
        return plain(condition.remedy) if condition else "-"

    @admin.display(description="guide")
    def guide(self, incident: Incident) -> str:
        condition = BY_KEY.get(incident.key)
        if condition is None:
            return "-"
        title = condition.section.replace("-", " ").capitalize()
        return format_html('<a href="{}">{}</a>', condition.guide_url, title)

    @admin.display(description="messages to operators")
    def messages(self, incident: Incident) -> str:
        sent = format_html_join("", "<li>{}</li>", ((_in_words(n),) for n in _notices(incident)))
        return format_html("<ul>{}</ul>", sent) if sent else "-"


def _notices(incident: Incident) -> list[Notice]:
    return list(incident.notices.order_by("pk"))


def _in_words(notice: Notice) -> str:
    """Return ``Began, by email: sent at 3 Nov 2026, 14:05:11 UTC``, or why it was not sent."""
    if notice.sent_at:
        how = f"sent at {in_utc(notice.sent_at)}"
    else:
        how = f"not sent in {notice.attempts} attempts. {notice.problem}".strip()
    return f"{notice.event.capitalize()}, by {notice.channel}: {how}"
