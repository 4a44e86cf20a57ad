"""The admin's page of processes: what runs where, in which version, and holds how many calls."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timesince

from core.admin import ReadOnlyAdmin
from telephony.models import Process
from telephony.processes import versions_counted

EARLIER_RELEASE = "an earlier release"


@admin.register(Process)
class ProcessAdmin(ReadOnlyAdmin):
    list_display = [
        "kind",
        "host",
        "pid",
        "release",
        "condition",
        "calls_held",
        "queues",
        "started_at",
        "last_seen_at",
    ]
    list_filter = ["kind"]
    search_fields = ["id__exact", "host__exact"]
    search_help_text = "Search by host or process ID."
    ordering = ["kind", "host", "started_at"]
    fields = [
        "id",
        ("kind", "host", "pid"),
        ("release", "condition", "queues"),
        "calls_held",
        ("started_at", "last_seen_at", "draining_since", "lost_at"),
    ]
    readonly_fields = ["release", "condition", "calls_held"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Process]:
        return cast("QuerySet[Process]", super().get_queryset(request).with_state())  # type: ignore[attr-defined]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        versions = {"versions": versions_in_words(versions_counted())}
        return super().changelist_view(request, versions | (extra_context or {}))

    @admin.display(description="version")
    def release(self, process: Process) -> str:
        return process.version or EARLIER_RELEASE

    @admin.display(description="state")
    def condition(self, process: Any) -> str:
        """Show the state and, unless it is up, for how long: ``silent for 5 minutes``."""
        since = {
            Process.State.SILENT: process.last_seen_at,
            Process.State.DRAINING: process.draining_since,
        }.get(process.state)
        text = f"{process.state} for {timesince(since, depth=1)}" if since else process.state
        return format_html('<span class="state {}">{}</span>', process.state, text)

    @admin.display(description="calls")
    def calls_held(self, process: Process) -> str:
        if process.kind != Process.Kind.ENGINE:
            return "-"
        held = {"engine": process.pk, "outcome": "in-progress"}
        url = reverse("admin:telephony_call_changelist")
        return format_html(
            '<a href="{}?{}">{} in progress</a> · <a href="{}?{}">all</a>',
            *(url, urlencode(held), process.calls),
            *(url, urlencode({"engine": process.pk})),
        )


def versions_in_words(versions: Counter[str]) -> str:
    """Return the versions that run, if there are several: ``1.0.0 (3 processes) and …``."""
    if len(versions) < 2:
        return ""
    *others, last = [
        f"{version or EARLIER_RELEASE} ({count} process{'es' if count > 1 else ''})"
        for version, count in sorted(versions.items())
    ]
    return f"{', '.join(others)} and {last}"
