"""The admin's pages of metering: meter events and their problems."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from accounts.models import Account
from billing.metering.events import meter_event_send_again
from billing.metering.problems import problem_resolve
from billing.models import MeterEvent, MeterProblem
from core.admin import CappedPaginator, ReadOnlyAdmin
from core.ids import is_id


@admin.register(MeterEvent)
class MeterEventAdmin(ReadOnlyAdmin):
    list_display = [
        "identifier",
        "account",
        "minutes",
        "happened_at",
        "state",
        "attempts",
        "last_error",
    ]
    list_filter = ["state"]
    list_select_related = ["account"]
    search_fields = ["identifier"]
    search_help_text = "Search by CallSid, account ID or email address."
    ordering = ["-usage_record_id"]  # by time of recording, on that column's index
    actions = ["send_again"]
    fields = [
        "identifier",
        ("account", "usage_record"),
        ("minutes", "happened_at"),
        ("state", "attempts", "last_error"),
        ("first_attempt_at", "next_attempt_at", "sent_at"),
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[MeterEvent], search_term: str
    ) -> tuple[QuerySet[MeterEvent], bool]:
        """Match whole values only, because a part of one would need a scan of all rows."""
        return _found(queryset, search_term.strip()), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data:
            response.context_data["subtitle"] = _total(response.context_data["cl"].queryset)
        return response

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("billing.change_meterevent"))

    @admin.action(description="Send rejected events again", permissions=["send_again"])
    def send_again(self, request: HttpRequest, events: QuerySet[MeterEvent]) -> None:
        count = 0
        for event in events:
            if meter_event_send_again(identifier=event.identifier):
                self.log_change(request, event, "Requested to send it again.")
                count += 1
        self.message_user(request, f"Events to be sent again: {count}.", messages.SUCCESS)


def _found(events: QuerySet[MeterEvent], term: str) -> QuerySet[MeterEvent]:
    if not term:
        return events
    if "@" in term:
        return events.filter(account__in=Account.objects.with_email(term))
    return events.filter(account_id=term) if is_id(term) else events.filter(pk=term)


def _total(events: QuerySet[MeterEvent]) -> str:
    """Return the total minutes of the events found, up to the number that is counted."""
    counted = events.order_by()[: CappedPaginator.MOST]
    minutes = counted.aggregate(minutes=Sum("minutes", default=0))["minutes"]
    at_least = "at least " if events.order_by()[CappedPaginator.MOST :].exists() else ""
    return f"{at_least}{minutes} minutes"


class OpenFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open"), ("no", "Resolved")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[MeterProblem]
    ) -> QuerySet[MeterProblem]:
        match self.value():
            case "yes":
                return queryset.filter(resolved_at=None)
            case "no":
                return queryset.exclude(resolved_at=None)
        return queryset


@admin.register(MeterProblem)
class MeterProblemAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "account", "found_at", "resolved_at"]
    list_filter = [OpenFilter, "kind"]
    list_select_related = ["account"]
    ordering = ["-id"]
    actions = ["mark_as_resolved"]
    fields = ["kind", "key", "account", "detail", ("found_at", "resolved_at")]

    def has_mark_as_resolved_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("billing.change_meterproblem"))

    @admin.action(description="Mark as resolved", permissions=["mark_as_resolved"])
    def mark_as_resolved(self, request: HttpRequest, problems: QuerySet[MeterProblem]) -> None:
        count = 0
        for problem in problems:
            if problem_resolve(key=problem.key):
                self.log_change(request, problem, "Marked as resolved.")
                count += 1
        self.message_user(request, f"Resolved: {count}.", messages.SUCCESS)
