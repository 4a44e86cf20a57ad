"""Calls, numbers and callbacks for operators.

The contents of a call's plan, of its progress and of a callback's body are not shown anywhere here.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from accounts.audit import Action, audit
from accounts.models import Account
from core.admin import ListAdmin, ReadOnlyAdmin, ReadOnlyInline, asks_first
from core.errors import ApiError
from core.ids import is_id
from telephony.callbacks.outbox import resend
from telephony.hangup import call_request_hangup
from telephony.models import Call, CallbackAttempt, CallbackDelivery, CallEvent, PhoneNumber
from telephony.numbers import phone_number_remove
from telephony.twilio_rest import CALL_SID


@admin.register(PhoneNumber)
class PhoneNumberAdmin(ListAdmin):
    """An operator can deactivate a number. Everything else is up to its account."""

    list_display = ["phone_number", "account", "is_active", "created_at"]
    list_filter = ["is_active"]
    actions = ["release"]
    list_select_related = ["account"]
    search_fields = ["phone_number", "account__email"]
    readonly_fields = [
        "id",
        "account",
        "phone_number",
        "on_call_start_url",
        "on_call_end_url",
        "on_error_url",
        "twilio_account_sid",
        "verified_at",
        "refused_account_sid",
        "refused_at",
        "created_at",
    ]
    fields = [*readonly_fields, "is_active"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @transaction.atomic
    def save_model(self, request: HttpRequest, obj: PhoneNumber, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if names := form.changed_data:
            action = Action.NUMBER_CHANGED
            audit(account=obj.account, action=action, number=str(obj), changed=names)

    @admin.action(description="Release the selected numbers", permissions=["change"])
    @asks_first(
        "Release these numbers?",
        "Their accounts lose them, and any account can register them. Calls to them are rejected "
        "until then.",
    )
    def release(self, request: HttpRequest, numbers: QuerySet[PhoneNumber]) -> None:
        for number in numbers:
            account = number.account
            phone_number_remove(account=account, id=number.id, rests=False)
            self.log_change(request, number, f"Released from {account}.")
            self.message_user(request, f"Released: {number}.", messages.SUCCESS)


class CallEventInline(ReadOnlyInline):
    model = CallEvent
    verbose_name_plural = "timeline"
    fields = ["at", "kind", "detail"]
    ordering = ["at", "id"]


class CallbackInline(ReadOnlyInline):
    model = CallbackDelivery
    fields = ["kind", "state", "attempts", "last_result", "created_at", "ended_at"]
    readonly_fields = ["created_at"]
    ordering = ["created_at"]
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[CallbackDelivery]:
        return super().get_queryset(request).defer("sealed_body")


class LiveFilter(admin.SimpleListFilter):
    title = "live"
    parameter_name = "live"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Live"), ("no", "Ended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        match self.value():
            case "yes":
                return queryset.filter(ended_at=None)
            case "no":
                return queryset.exclude(ended_at=None)
        return queryset


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    list_display = [
        "__str__",
        "created_at",
        "ended_reason",
        "account",
        "direction",
        "status",
        "caller_phone",
        "called_number",
        "duration_seconds",
    ]
    list_filter = [LiveFilter, "direction", "status"]
    list_select_related = ["account"]
    search_fields = ["call_sid"]
    search_help_text = "A CallSid, an id of a call or an account, a number or an email address."
    ordering = ["-id"]  # by time of creation, on the primary key's index
    inlines = [CallEventInline, CallbackInline]
    actions = ["hang_up"]
    fields = [
        ("id", "call_sid"),
        "account",
        ("direction", "status", "ended_reason"),
        ("caller_phone", "called_number", "answered_by"),
        ("created_at", "accepted_at", "answered_at", "ended_at", "duration_seconds"),
        ("held_until", "last_seen_at", "hangup_requested_at"),
        ("on_call_start_url", "on_call_end_url", "on_error_url"),
        "metadata",
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Call], search_term: str
    ) -> tuple[QuerySet[Call], bool]:
        """Match the whole term only: a partial match would scan all rows."""
        return _found(queryset, search_term.strip()), False

    def has_hang_up_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("telephony.change_call"))

    @admin.action(description="Hang up the selected calls", permissions=["hang_up"])
    def hang_up(self, request: HttpRequest, calls: QuerySet[Call]) -> None:
        asked = 0
        for call in calls:
            try:
                call_request_hangup(call_id=call.id)
            except ApiError as refusal:
                self.message_user(request, f"Call {call}: {refusal.message}", messages.WARNING)
            else:
                self.log_change(request, call, "Requested a hangup.")
                asked += 1
        if asked:
            self.message_user(request, f"Requested a hangup: {asked}.", messages.SUCCESS)


def _found(calls: QuerySet[Call], term: str) -> QuerySet[Call]:
    if not term:
        return calls
    if CALL_SID.fullmatch(term):
        return calls.filter(call_sid=term)
    if is_id(term):
        return calls.filter(Q(pk=term) | Q(account_id=term))
    if "@" in term:
        return calls.filter(account__in=Account.objects.with_email(term))
    return calls.filter(Q(caller_phone=term) | Q(called_number=term))


class CallbackAttemptInline(ReadOnlyInline):
    model = CallbackAttempt
    verbose_name_plural = "attempts of the last 30 days"
    fields = ["at", "duration_ms", "result"]
    ordering = ["id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CallbackAttempt]:
        return super().get_queryset(request).defer("sealed_answer")


@admin.register(CallbackDelivery)
class CallbackDeliveryAdmin(ReadOnlyAdmin):
    list_display = ["id", "kind", "account", "call", "state", "attempts", "last_result", "due_at"]
    list_filter = ["state", "kind"]
    list_select_related = ["account", "call"]
    search_fields = ["call__call_sid__exact"]
    search_help_text = "A CallSid."
    ordering = ["-id"]
    fields = [
        "id",
        "kind",
        ("account", "call"),
        "url",
        ("state", "attempts", "last_result"),
        ("created_at", "due_at", "claimed_until", "ended_at"),
        ("resends", "resume_at"),
        "held_by",
    ]
    inlines = [CallbackAttemptInline]
    actions = ["send_now"]

    def has_send_now_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("telephony.change_callbackdelivery"))

    @admin.action(description="Send the selected callbacks now", permissions=["send_now"])
    @asks_first(
        "Send these callbacks now?",
        "Customers' backends receive them at once. The schedule does not change.",
    )
    def send_now(self, request: HttpRequest, deliveries: QuerySet[CallbackDelivery]) -> None:
        for delivery in deliveries:
            try:
                resend(delivery)
            except ApiError as refusal:
                self.message_user(
                    request, f"Callback {delivery}: {refusal.message}", messages.WARNING
                )
            else:
                self.log_change(request, delivery, "Requested immediate delivery.")
                self.message_user(request, f"Sending now: {delivery}.", messages.SUCCESS)

    def get_queryset(self, request: HttpRequest) -> QuerySet[CallbackDelivery]:
        return super().get_queryset(request).defer("sealed_body")
