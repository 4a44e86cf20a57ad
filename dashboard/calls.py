"""The pages of calls: the list, its export, and one call with its timeline and callbacks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import push_url

from accounts.permissions import require_active
from core.errors import ApiError
from core.keyset import Cursor, page_of
from core.money import dollars, small_dollars
from dashboard.access import PageRequest, for_customer, reason_not_active
from dashboard.call_export import calls_as_csv, usage_of
from dashboard.call_filters import DIRECTIONS, ERROR_CODES, CallFilters, own_numbers
from dashboard.call_latency import response_times
from dashboard.call_notices import notices_of
from dashboard.call_words import (
    code_tone,
    delivery_label,
    delivery_tone,
    length,
    line_of,
    outcome_label,
    outcome_tone,
)
from dashboard.rendering import dashboard_page
from dashboard.responses import attempt_shown, request_shown
from telephony.callback_urls import without_query
from telephony.hangup import call_request_hangup
from telephony.models import Call, CallbackDelivery
from telephony.retention import is_without_timeline
from telephony.timelines import timeline_of
from usage.models import UsageRecord

PAGE_SIZE = 50
# A long call has thousands of events. The page shows the latest ones.
MOST_EVENTS = 500
# A call's page keeps refreshing for this long after the call ends or a callback is due.
LOOK_AFTER_END = timedelta(seconds=30)


@for_customer
@require_safe
def calls(request: PageRequest) -> HttpResponse:
    """The list. htmx gets the table only, and a URL without empty filters."""
    filters = CallFilters(request.GET)
    found = filters.apply(request.user)
    page = page_of(
        found.calls,
        by=found.by,
        size=PAGE_SIZE,
        before=Cursor.read(request.GET.get("before", "")),
        after=Cursor.read(request.GET.get("after", "")),
    )
    usage = usage_of(request.user, page.rows)
    is_filtered = bool(filters.query())
    context = {
        "filters": filters,
        "is_filtered": is_filtered,
        "is_first": not (request.GET.get("before") or request.GET.get("after")),
        "rows": [_row(call, usage.get(call.call_sid or "")) for call in page.rows],
        "newer": reverse("calls") + filters.query(before=page.before) if page.before else "",
        "older": reverse("calls") + filters.query(after=page.after) if page.after else "",
        "newest": reverse("calls") + filters.query(),
        "export": reverse("calls-export") + filters.query(),
        "kept_days": settings.RETAIN_CALLS_DAYS,
    }
    if _wants_part(request):
        response = render(request, "dashboard/calls_table.html", context)
        place = {name: request.GET.get(name, "") for name in ("before", "after")}
        push_url(response, reverse("calls") + filters.query(**place))
    else:
        status = 200 if filters.is_valid() else 400
        context |= {"numbers": own_numbers(request.user), "codes": ERROR_CODES}
        response = dashboard_page(request, "calls", "dashboard/calls.html", context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response


@for_customer
@require_safe
def export(request: PageRequest) -> HttpResponseBase:
    """Stream all calls that match the filters, as a file."""
    filters = CallFilters(request.GET)
    if not filters.is_valid():
        return redirect(reverse("calls") + filters.query())
    response = StreamingHttpResponse(
        calls_as_csv(request.user, filters.apply(request.user)),
        content_type="text/csv; charset=utf-8",
    )
    name = f"calls-{timezone.localdate():%Y-%m-%d}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@for_customer
@require_safe
def call(request: PageRequest, id: str) -> HttpResponse:
    """One call. htmx refreshes it while it is in progress and for a moment after its end."""
    found = Call.objects.access(request.user, id)
    context = _facts(found) | {"call": found, "not_active": reason_not_active(request.user)}
    if not _wants_part(request):
        return dashboard_page(request, "calls", "dashboard/call.html", context)
    return render(request, "dashboard/call_part.html", context)


@for_customer
@require_POST
def hang_up(request: PageRequest, id: str) -> HttpResponse:
    """Hang up, and go to the call's page or ``back`` to the overview."""
    found = Call.objects.of(request.user).access(request.user, id)
    try:
        require_active(request.user)
        call_request_hangup(call_id=found.id)
    except ApiError as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(
            request,
            "Hanging up. The call ends within seconds, or when answered if it is still ringing.",
        )
    if request.POST.get("back") == "overview":
        return redirect("overview")
    return redirect("call", found.id)


def _wants_part(request: PageRequest) -> bool:
    """Return True if htmx wants a part. To restore history, it needs the whole page."""
    return bool(request.htmx) and not request.htmx.history_restore_request


def _row(call: Call, record: UsageRecord | None) -> dict[str, Any]:
    return {
        "call": call,
        "href": reverse("call", args=[call.id]),
        "direction": DIRECTIONS[Call.Direction(call.direction)],
        "label": outcome_label(call),
        "tone": outcome_tone(call),
        "code_tone": code_tone(call),
        "length": length(call.duration_seconds) if call.ended_at else "",
        "cost": dollars(record.total_cost) if record else "",
    }


def _facts(call: Call) -> dict[str, Any]:
    """Return the context of a call's page, with seven queries."""
    now = timezone.now()
    is_live = call.ended_at is None
    sids = [call.call_sid] if call.call_sid and call.ended_at else []
    records = UsageRecord.objects.filter(account_id=call.account_id).by_call(sids)
    record = records.get(call.call_sid or "")
    newest = timeline_of(call, newest=MOST_EVENTS + 1)
    events = newest[-MOST_EVENTS:]
    deliveries = list(call.callbacks.with_attempts().order_by("created_at", "id"))
    failed = list(call.failed_requests.order_by("at", "id"))
    return {
        "notices": notices_of(call, events, deliveries),
        **response_times(call, events),
        "responses": [request_shown(each) for each in failed],
        "row": _row(call, record),
        "cost": small_dollars(record.total_cost) if record else "",
        "is_live": is_live,
        "is_watched": (
            call.ended_at is None
            or call.ended_at > now - LOOK_AFTER_END
            or any(_is_being_sent(delivery, now) for delivery in deliveries)
        ),
        "costs": _costs(record) if record else [],
        "urls": [(name, without_query(url)) for name, url in _urls(call) if url],
        "lines": [line_of(event, call) for event in events],
        "timeline_is_deleted": not is_live and not events and is_without_timeline(call),
        "most_events": MOST_EVENTS if len(newest) > MOST_EVENTS else 0,
        "deliveries": [_delivery(delivery) for delivery in deliveries],
    }


def _urls(call: Call) -> list[tuple[str, str]]:
    return [
        ("onCallStart", call.on_call_start_url),
        ("onCallEnd", call.on_call_end_url),
        ("onError", call.on_error_url),
    ]


def _is_being_sent(delivery: CallbackDelivery, now: datetime) -> bool:
    is_pending = delivery.state == CallbackDelivery.State.PENDING
    return is_pending and now - LOOK_AFTER_END < delivery.due_at <= now


def _costs(record: UsageRecord) -> list[tuple[str, str]]:
    return [
        (f"Switchhook, {record.minutes} min", small_dollars(record.platform_cost)),
        ("Twilio (estimate)", small_dollars(record.twilio_cost)),
        ("OpenAI (estimate)", small_dollars(record.openai_cost)),
        ("Total", small_dollars(record.total_cost)),
    ]


def _delivery(delivery: CallbackDelivery) -> dict[str, Any]:
    return {
        "delivery": delivery,
        "is_pending": delivery.state == CallbackDelivery.State.PENDING,
        "tone": delivery_tone(delivery),
        "label": delivery_label(delivery),
        "attempts": [attempt_shown(attempt) for attempt in delivery.attempt_list.all()],
    }


urlpatterns = [
    path("dashboard/calls", calls, name="calls"),
    path("dashboard/calls.csv", export, name="calls-export"),
    path("dashboard/calls/<str:id>", call, name="call"),
    path("dashboard/calls/<str:id>/hangup", hang_up, name="call-hang-up"),
]
