"""Calls, numbers and callbacks for operators.

The contents of a call's plan, of its progress and of a callback's body are not shown anywhere here.
"""

from __future__ import annotations

import json
import re
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from accounts.audit import Action, audit
from accounts.models import Account
from core.admin import (
    ListAdmin,
    OrderedPaginator,
    ReadOnlyAdmin,
    ReadOnlyInline,
    account_link,
    asks_first,
)
from core.errors import ApiError
from core.ids import is_id
from telephony.callbacks.outbox import resend
from telephony.engine.codes import (
    MODEL_CODES,
    OUTCOMES,
    CallProblem,
    EndedReason,
    ErrorCode,
)
from telephony.explanations import section_of
from telephony.hangup import call_request_hangup
from telephony.models import (
    HALF_HOUR,
    UNCOMMON_END,
    Call,
    CallbackAttempt,
    CallbackDelivery,
    PhoneNumber,
    Process,
)
from telephony.numbering import parse_number
from telephony.numbers import phone_number_remove
from telephony.timelines import timeline_of

# The most engines that a filter lists.
_MOST_ENGINES = 50
# How far back the calls of a number are found.
MOST_OF_A_NUMBER = 1000
# How many events of a timeline a page shows.
MOST_EVENTS = 2000
# Long enough that few calls have the same.
_SID_BEGINNING = re.compile(r"CA[0-9a-f]{6,32}")
_ID_BEGINNING = re.compile(r"c[0-9a-z]{9,24}")


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


class CallbackInline(ReadOnlyInline):
    model = CallbackDelivery
    fields = ["kind", "state", "attempts", "last_result", "created_at", "ended_at"]
    readonly_fields = ["created_at"]
    ordering = ["created_at"]
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[CallbackDelivery]:
        return super().get_queryset(request).defer("sealed_body")


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, _words(name)) for name in OUTCOMES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        match self.value():
            case None:
                return queryset
            case "in-progress":
                return queryset.live()  # type: ignore[attr-defined]
            case outcome:
                found = queryset.that_came_out(outcome)  # type: ignore[attr-defined]
                # Which the index holds.
                return found if outcome == "completed" else found.filter(UNCOMMON_END)


class ReasonFilter(admin.SimpleListFilter):
    title = "reason for the end"
    parameter_name = "ended_reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(reason.value, reason.label) for reason in EndedReason]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        reason = self.value()
        return queryset.filter(ended_reason=reason) if reason else queryset


class ErrorCodeFilter(admin.SimpleListFilter):
    """Offers the known codes; a link to another one, such as a new one of OpenAI's, works too."""

    title = "error code"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        known = [code.value for catalog in (ErrorCode, CallProblem) for code in catalog]
        return [(code, code) for code in sorted({*known, *MODEL_CODES})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        code = self.value()
        return queryset.filter(error_code=code) if code else queryset


class EngineFilter(admin.SimpleListFilter):
    """Offers the engines that are listed; the ID of one that is gone works too."""

    title = "engine"
    parameter_name = "engine"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        engines = Process.objects.filter(kind=Process.Kind.ENGINE).order_by("host", "started_at")
        known = {engine.pk: engine.place for engine in engines[:_MOST_ENGINES]}
        if chosen := self.value():
            known.setdefault(chosen, chosen)
        return list(known.items())

    def has_output(self) -> bool:
        return True  # else its parameter would be ignored

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        engine = self.value()
        return queryset.filter(engine_id=engine) if engine else queryset


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    list_display = ["time", "customer", "number", "other_party", "direction", "result", "length"]
    list_filter = [OutcomeFilter, ReasonFilter, ErrorCodeFilter, EngineFilter]
    list_select_related = ["account"]
    search_fields = ["call_sid"]  # what is searched follows from the term: `_found`
    search_help_text = (
        f"Search by CallSid or call ID (its beginning is enough), account ID, email address or "
        f"phone number (its last {MOST_OF_A_NUMBER:,} calls)."
    )
    ordering = ["-id"]  # by time of creation, on the primary key's index
    inlines = [CallbackInline]
    actions = ["hang_up"]
    fields = [
        ("id", "call_sid"),
        "account",
        ("direction", "status", "ended_reason"),
        ("error_code", "explanation"),
        ("caller_phone", "called_number", "answered_by"),
        ("created_at", "accepted_at", "answered_at", "ended_at", "duration_seconds"),
        ("first_audio_ms", "turn_p50_ms", "turn_p95_ms"),
        ("held_until", "last_seen_at", "hangup_requested_at"),
        "engine",
        ("on_call_start_url", "on_call_end_url", "on_error_url"),
        "metadata",
        "timeline",
    ]
    readonly_fields = ["explanation", "engine", "timeline"]

    def get_ordering(self, request: HttpRequest) -> Any:
        """Order an engine's calls by half hours first, as its index does: by time all the same."""
        if EngineFilter.parameter_name in request.GET:
            return [HALF_HOUR.desc(), "-id"]
        return super().get_ordering(request)

    def get_paginator(
        self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any
    ) -> Paginator:
        is_of_engine = EngineFilter.parameter_name in request.GET
        kind = OrderedPaginator if is_of_engine else self.paginator
        return kind(queryset, *args, **kwargs)

    @admin.display(description="engine")
    def engine(self, call: Call) -> str:
        """Show the process that held the call, and link to its other calls."""
        if not call.engine_id:
            return "-"
        process = Process.objects.filter(pk=call.engine_id).first()
        shown = call.engine_id
        if process:
            url = reverse("admin:telephony_process_change", args=[process.pk])
            shown = format_html('<a href="{}">{}</a>', url, process.place)
        others = f"{reverse('admin:telephony_call_changelist')}?engine={call.engine_id}"
        return format_html('{} · <a href="{}">its calls</a>', shown, others)

    @admin.display(description="time (UTC)")
    def time(self, call: Call) -> str:
        return f"{call.created_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="account")
    def customer(self, call: Call) -> str:
        return account_link(call.account_id, call.account.email)

    @admin.display(description="number")
    def number(self, call: Call) -> str:
        return call.numbers[0]

    @admin.display(description="other party")
    def other_party(self, call: Call) -> str:
        return call.numbers[1]

    @admin.display(description="outcome")
    def result(self, call: Call) -> str:
        """Show the outcome, and below it what went wrong or, if nothing did, why it ended.

        A code breaks between its words, so that the list fits a window.
        """
        code = call.error_code or call.ended_reason
        shown = format_html(
            '<span class="outcome {}">{}</span>', call.outcome, _words(call.outcome)
        )
        words = format_html_join("", "{}<wbr>", ((word,) for word in re.findall("_?[^_]+", code)))
        return format_html("{} <code title='{}'>{}</code>", shown, code, words) if code else shown

    @admin.display(description="duration")
    def length(self, call: Call) -> str:
        minutes, seconds = divmod(call.duration_seconds, 60)
        return f"{minutes}:{seconds:02}" if call.answered_at else "-"

    @admin.display(description="meaning")
    def explanation(self, call: Call) -> str:
        explanation = section_of(call.error_code) if call.error_code else None
        return f"{explanation.meaning} {explanation.remedy}" if explanation else "-"

    def timeline(self, call: Call) -> str:
        newest = timeline_of(call, newest=MOST_EVENTS + 1)
        return format_html(
            "{}<table><thead><tr><th>Time (UTC)</th><th>Event</th><th>Details</th></tr></thead>"
            "<tbody>{}</tbody></table>",
            format_html("<p>The newest {} events.</p>", MOST_EVENTS)
            if len(newest) > MOST_EVENTS
            else "",
            format_html_join(
                "",
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                (
                    (
                        event.at.replace(tzinfo=None).isoformat(" ", "milliseconds"),
                        event.kind,
                        json.dumps(event.detail, ensure_ascii=False),
                    )
                    for event in newest[-MOST_EVENTS:]
                ),
            ),
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Call], search_term: str
    ) -> tuple[QuerySet[Call], bool]:
        """Match whole values or their beginning: another partial match would scan all rows."""
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
    if _SID_BEGINNING.fullmatch(term):
        return calls.filter(call_sid__range=_beginning_with(term, length=34, last="f"))
    if account := _account(term):
        # In the order of the account's index: in the order of ids, all calls would be read.
        return calls.filter(account=account).order_by("-created_at", "-id")
    if number := parse_number(term):
        return calls.filter(pk__in=_last_of(number))
    if _ID_BEGINNING.fullmatch(term):
        return calls.filter(pk__range=_beginning_with(term, length=25, last="z"))
    return calls.none()


def _beginning_with(term: str, *, length: int, last: str) -> tuple[str, str]:
    """Return the first and the last text of a length with this beginning.

    An index has a range in any collation, but a prefix only in C: see ``core.database.schema``.

    :param last: the last character of their alphabet.
    """
    return term, term.ljust(length, last)


def _account(term: str) -> Account | None:
    if "@" in term:
        return Account.objects.with_email(term).first()
    return Account.objects.filter(pk=term).first() if is_id(term) else None


def _last_of(number: str) -> list[str]:
    """Return the ids of a number's last calls, on whichever side: two short walks on an index.

    One query for both sides would sort every call of the number.
    """
    calls = Call.objects.order_by("-id")
    sides = (calls.filter(caller_phone=number), calls.filter(called_number=number))
    return [id for side in sides for id in side.values_list("pk", flat=True)[:MOST_OF_A_NUMBER]]


def _words(name: str) -> str:
    return name.replace("-", " ").capitalize()


class CallbackAttemptInline(ReadOnlyInline):
    model = CallbackAttempt
    verbose_name_plural = "attempts of the last 30 days"
    fields = ["at", "duration_ms", "result"]
    ordering = ["id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CallbackAttempt]:
        return super().get_queryset(request).defer("sealed_answer")


@admin.register(CallbackDelivery)
class CallbackDeliveryAdmin(ReadOnlyAdmin):
    list_display = [
        "created_at",
        "kind",
        "customer",
        "state",
        "attempts",
        "last_result",
        "due_at",
    ]
    list_filter = ["state", "kind"]
    list_select_related = ["account"]
    search_fields = ["call__call_sid__exact"]
    search_help_text = "Search by CallSid."
    ordering = ["-id"]
    ordering_of_account = ("-created_at", "-id")
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

    @admin.display(description="account")
    def customer(self, delivery: CallbackDelivery) -> str:
        return account_link(delivery.account_id, delivery.account.email)

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
