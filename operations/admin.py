"""The admin's pages for jobs and for the log of operators' changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

import operations.accounts
import operations.incident_pages
import operations.processes  # noqa: F401  (they register their pages)
from core.admin import ReadOnlyAdmin, ReadOnlyInline

admin.site.unregister(ProcrastinateJob)

# What the libraries call these says nothing to an operator.
_NAMES = {ProcrastinateJob: ("job", "jobs"), LogEntry: ("change", "operators' changes")}
for _model, _names in _NAMES.items():
    _model._meta.verbose_name, _model._meta.verbose_name_plural = _names
for _label, _name in (
    ("admin", "Operators"),
    ("auth", "Permissions"),
    ("procrastinate", "Background jobs"),
):
    apps.get_app_config(_label).verbose_name = _name


class JobEventInline(ReadOnlyInline):
    model = ProcrastinateEvent
    fields = ["at", "type"]
    ordering = ["-at"]


@admin.register(ProcrastinateJob)
class JobAdmin(ReadOnlyAdmin):
    """Replaces procrastinate's own page, whose filters scan the whole table."""

    list_display = ["id", "task_name", "status", "attempts", "last", "scheduled_at", "arguments"]
    list_filter = ["status"]
    search_fields = ["task_name__exact", "id__exact"]
    search_help_text = "Search by full task name or job ID."
    ordering = ["-id"]
    inlines = [JobEventInline]
    fields = [
        ("id", "task_name", "arguments"),
        ("status", "attempts", "scheduled_at"),
        ("queue_name", "lock", "queueing_lock", "priority"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProcrastinateJob]:
        events = ProcrastinateEvent.objects.filter(job=OuterRef("pk")).order_by("-at")
        return super().get_queryset(request).annotate(last=Subquery(events.values("at")[:1]))

    @admin.display(description="arguments")
    def arguments(self, job: ProcrastinateJob) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in job.args.items())

    @admin.display(description="last event")
    def last(self, job: Any) -> datetime | None:
        return cast("datetime | None", job.last)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """The log of operators' changes. Entries outlive the objects that they are about."""

    list_display = ["action_time", "user", "content_type", "object_repr", "what"]
    list_filter = ["action_flag"]
    list_select_related = ["user", "content_type"]
    search_fields = ["object_id__exact", "user__email__exact"]
    search_help_text = "Search by object ID or operator's email address."
    ordering = ["-id"]
    fields = ["action_time", "user", "content_type", "object_id", "object_repr", "what"]

    @admin.display(description="change")
    def what(self, entry: LogEntry) -> str:
        return entry.get_change_message()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(getattr(request.user, "is_superuser", False))
