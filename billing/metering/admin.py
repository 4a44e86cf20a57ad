"""The meter for operators: what is on its way to Stripe, what got stuck, and what to look at."""

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
    search_help_text = "A CallSid, an account's id or email address."
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
        """Find exactly what was asked for: a part of it would have to be looked for in all rows."""
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

    @admin.action(description="Send again what was refused", permissions=["send_again"])
    def send_again(self, request: HttpRequest, events: QuerySet[MeterEvent]) -> None:
        count = 0
        for event in events:
            if meter_event_send_again(identifier=event.identifier):
                self.log_change(request, event, "Asked to send it again.")
                count += 1
        self.message_user(request, f"Will be sent again: {count}.", messages.SUCCESS)


def _found(events: QuerySet[MeterEvent], term: str) -> QuerySet[MeterEvent]:
    if not term:
        return events
    if "@" in term:
        return events.filter(account__in=Account.objects.with_email(term))
    return events.filter(account_id=term) if is_id(term) else events.filter(pk=term)


def _total(events: QuerySet[MeterEvent]) -> str:
    """Say how many minutes the events are that were found, of so many as are counted at all."""
    counted = events.order_by()[: CappedPaginator.MOST]
    minutes = counted.aggregate(minutes=Sum("minutes", default=0))["minutes"]
    at_least = "at least " if events.order_by()[CappedPaginator.MOST :].exists() else ""
    return f"{at_least}{minutes} minutes"


class OpenFilter(admin.SimpleListFilter):
    title = "to be looked at"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "To be looked at"), ("no", "Resolved")]

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
