"""The admin's page of processes: what runs where, in which version, and holds how many calls."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.timesince import timesince

from core.admin import ReadOnlyAdmin
from operations.figures import list_url
from telephony.models import Call, Process
from telephony.processes import versions_counted

EARLIER_RELEASE = "an earlier release"


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in Process.State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Process]) -> QuerySet[Process]:
        state = self.value()
        return queryset.filter(state=state) if state else queryset  # type: ignore[misc]


@admin.register(Process)
class ProcessAdmin(ReadOnlyAdmin):
    list_display = [
        "kind",
        "place",
        "release",
        "condition",
        "calls_held",
        "served",
        "started",
    ]
    list_filter = ["kind", StateFilter]
    search_fields = ["id__exact", "host__exact"]
    search_help_text = "Search by host or process ID."
    ordering = ["kind", "host", "started_at"]
    fields = [
        "id",
        ("kind", "host", "pid"),
        ("release", "condition", "served"),
        ("calls_held", "all_calls"),
        ("started_at", "last_seen_at", "draining_since", "lost_at"),
    ]
    readonly_fields = ["release", "condition", "served", "calls_held", "all_calls"]

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

    @admin.display(description="host and PID")
    def place(self, process: Process) -> str:
        return process.place

    @admin.display(description="queues")
    def served(self, process: Process) -> str:
        return process.queues.replace(",", ", ") or "-"

    @admin.display(description="started (UTC)")
    def started(self, process: Process) -> str:
        return f"{process.started_at:%Y-%m-%d %H:%M}"

    @admin.display(description="state")
    def condition(self, process: Any) -> str:
        """Show the state and, unless it is up, for how long: ``Silent for 5 minutes``."""
        since = {
            Process.State.SILENT: process.last_seen_at,
            Process.State.DRAINING: process.draining_since,
        }.get(process.state)
        state = Process.State(process.state)
        text = f"{state.label} for {timesince(since, depth=1)}" if since else state.label
        return format_html('<span class="state {}">{}</span>', state.value, text)

    @admin.display(description="calls in progress")
    def calls_held(self, process: Process) -> str:
        if process.kind != Process.Kind.ENGINE:
            return "-"
        return _calls_link(f"{process.calls:,}", engine=process.pk, outcome="in-progress")

    @admin.display(description="all calls")
    def all_calls(self, process: Process) -> str:
        if process.kind != Process.Kind.ENGINE:
            return "-"
        return _calls_link("Show all its calls", engine=process.pk)


def _calls_link(text: str, **filters: str) -> str:
    return format_html('<a href="{}">{}</a>', list_url(Call, **filters), text)


def versions_in_words(versions: Counter[str]) -> str:
    """Return the versions that run, if there are several: ``1.0.0 (3 processes) and …``."""
    if len(versions) < 2:
        return ""
    *others, last = [
        f"{version or EARLIER_RELEASE} ({count} process{'es' if count > 1 else ''})"
        for version, count in sorted(versions.items())
    ]
    return f"{', '.join(others)} and {last}"
