"""What operators see beside the apps' own pages: the queue, and what operators have done."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest
from procrastinate.contrib.django.admin import ProcrastinateJobAdmin
from procrastinate.contrib.django.models import ProcrastinateJob

from config.admin import CappedPaginator, ReadOnlyAdmin

admin.site.site_header = "Switchhook"
admin.site.site_title = "Switchhook"
admin.site.index_title = "Operations"

admin.site.unregister(ProcrastinateJob)


@admin.register(ProcrastinateJob)
class JobAdmin(ProcrastinateJobAdmin):
    """Procrastinate's own page, without the filters that would look through the whole table."""

    list_filter = ["status"]
    search_fields = ["task_name__exact", "id__exact"]
    search_help_text = "A task's whole name, or a job's number."
    ordering = ["-id"]
    paginator = CappedPaginator
    show_full_result_count = False


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """Who has done what here: it stays when what it was done to is gone."""

    list_display = ["action_time", "user", "content_type", "object_repr", "what"]
    list_filter = ["action_flag"]
    list_select_related = ["user", "content_type"]
    search_fields = ["object_id__exact", "user__email__exact"]
    search_help_text = "The id of what it was done to, or an operator's e-mail address."
    ordering = ["-id"]
    fields = ["action_time", "user", "content_type", "object_id", "object_repr", "what"]

    @admin.display(description="what")
    def what(self, entry: LogEntry) -> str:
        return entry.get_change_message()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(getattr(request.user, "is_superuser", False))
