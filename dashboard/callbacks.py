"""The page of callbacks: the endpoints that fail, and the callbacks that are retried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import push_url

from accounts.models import Account
from accounts.permissions import require_active
from accounts.throttling import account_attempt
from core.errors import ApiError
from core.keyset import Cursor, page_of
from dashboard.access import PageRequest, for_customer, reason_not_active
from dashboard.call_words import (
    DELIVERY_LABELS,
    delivery_label,
    delivery_tone,
    result_words,
)
from dashboard.forms import FilterForm, LineField
from dashboard.rendering import dashboard_page
from telephony.callbacks import early, endpoints, outbox
from telephony.callbacks.origins import origin_of, shown
from telephony.models import (
    CallbackDelivery,
    CallbackDeliveryQuerySet,
    CallbackEndpoint,
    PhoneNumber,
)
from telephony.notices import counted

PAGE_SIZE = 50
# Endpoints that are shown. An account can have a server for each call.
MOST_ENDPOINTS = 20
# Numbers whose servers are suggested.
MOST_NUMBERS = 200


class CallbackFilters(FilterForm):
    """The filters of the list, as given in the URL."""

    state = forms.ChoiceField(choices=[("", "Any"), *DELIVERY_LABELS.items()], required=False)
    endpoint = LineField(
        required=False,
        max_length=2000,
        widget=forms.TextInput(
            {"inputmode": "url", "autocomplete": "off", "list": "endpoints", "placeholder": "Any"}
        ),
    )
    kind = forms.ChoiceField(
        label="Callback",
        choices=[("", "Any"), *((kind, kind) for kind in CallbackDelivery.Kind.values)],
        required=False,
    )

    def clean_endpoint(self) -> str:
        """Accept any URL of the server, and a host alone."""
        text = self.cleaned_data["endpoint"]
        if not text:
            return ""
        url = text if "://" in text else f"https://{text}"
        try:
            if urlsplit(url).hostname and url.isascii():
                return shown(origin_of(url))
        except ValueError:
            pass
        raise ValidationError("Enter the URL of a server, such as https://your-backend.com.")

    @property
    def chosen_endpoint(self) -> str:
        return self.cleaned_data["endpoint"] if self.is_valid() else ""

    def apply(self, deliveries: CallbackDeliveryQuerySet) -> CallbackDeliveryQuerySet:
        """Return the callbacks that match; none if a filter is invalid."""
        if not self.is_valid():
            return deliveries.none()
        chosen = self.cleaned_data
        if chosen["state"]:
            deliveries = deliveries.that_are(chosen["state"])
        if chosen["endpoint"]:
            deliveries = deliveries.to_endpoint(chosen["endpoint"])
        if chosen["kind"]:
            deliveries = deliveries.filter(kind=chosen["kind"])
        return deliveries


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A line about an endpoint that fails."""

    origin: str
    since: datetime
    attempts: int
    result: str
    waiting: str
    next_at: datetime | None


@for_customer
@require_safe
def callbacks(request: PageRequest) -> HttpResponse:
    """The page. htmx gets the list only, and a URL without empty filters."""
    filters = CallbackFilters(request.GET)
    place = {name: request.GET.get(name, "") for name in ("before", "after")}
    page = page_of(
        filters.apply(CallbackDelivery.objects.of(request.user))
        .defer("sealed_body")
        .select_related("held_by", "call"),
        size=PAGE_SIZE,
        before=Cursor.read(place["before"]),
        after=Cursor.read(place["after"]),
    )
    here = reverse("callbacks")
    not_active = reason_not_active(request.user)
    context = {
        "filters": filters,
        "is_filtered": bool(filters.query()),
        "is_first": not any(place.values()),
        "rows": [_row(delivery) for delivery in page.rows],
        "newer": here + filters.query(before=page.before) if page.before else "",
        "older": here + filters.query(after=page.after) if page.after else "",
        "newest": here + filters.query(),
        "place": filters.query(**place),
        "endpoint": filters.chosen_endpoint,
        "not_active": not_active,
    }
    if request.htmx and not request.htmx.history_restore_request:
        response = render(request, "dashboard/callbacks_table.html", context)
        push_url(response, here + filters.query(**place))
    else:
        status = 200 if filters.is_valid() else 400
        failing = _failing(request.user)
        context["failing"] = failing[:MOST_ENDPOINTS]
        context["has_more_failing"] = len(failing) > MOST_ENDPOINTS
        context["endpoints"] = _suggested(request.user, failing)
        response = dashboard_page(
            request, "callbacks", "dashboard/callbacks.html", context, status=status
        )
    patch_vary_headers(response, ["HX-Request"])
    return response


@for_customer
@require_POST
def send(request: PageRequest, id: str) -> HttpResponse:
    """Send one callback now."""
    _resend(request, id)
    return _back(request)


@for_customer
@require_POST
def send_from_call(request: PageRequest, id: str) -> HttpResponse:
    """Send one callback now, from its call's page."""
    delivery = _resend(request, id)
    return redirect(f"{reverse('call', args=[delivery.call_id])}#callbacks")


def _resend(request: PageRequest, id: str) -> CallbackDelivery:
    """Send one of the account's callbacks now, and say so on the next page."""
    delivery = CallbackDelivery.objects.defer("sealed_body").access(request.user, id)
    try:
        require_active(request.user)
        outbox.resend(delivery)
    except ApiError as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, f"Sending {delivery.kind} now.")
    return delivery


@for_customer
@require_POST
def send_all(request: PageRequest) -> HttpResponse:
    """Send everything that waits for an endpoint now; a job does it."""
    form = CallbackFilters({"endpoint": request.POST.get("endpoint", "")})
    origin = form.chosen_endpoint
    if not origin:
        messages.error(request, "Choose an endpoint first.")
        return _back(request)
    try:
        require_active(request.user)
        account_attempt(request.user, what="callbacks sent together")
    except ApiError as refusal:
        messages.error(request, refusal.message)
        return _back(request)
    if early.send_all(request.user, origin_of(origin)):
        messages.success(
            request,
            f"Sending the callbacks that wait for {origin}, {early.BATCH} at a time, as long as "
            "it accepts them.",
        )
    else:
        messages.info(request, f"No callbacks wait for {origin}.")
    return _back(request)


def _back(request: PageRequest) -> HttpResponse:
    """Return to the list, at the place that the form's URL has."""
    place = {name: request.GET.get(name, "") for name in ("before", "after")}
    return redirect(reverse("callbacks") + CallbackFilters(request.GET).query(**place))


def _failing(account: Account) -> list[_Endpoint]:
    """Return the endpoints that fail, the longest first, and one more than are shown."""
    failing = CallbackEndpoint.objects.of(account).failing().with_waiting()
    in_order = failing.order_by("failing_since", "id")[: MOST_ENDPOINTS + 1]
    return [
        _Endpoint(
            origin=shown(each.origin),
            since=each.failing_since,
            attempts=each.failed_attempts,
            result=result_words(each.last_result),
            waiting=counted(each.waiting),  # type: ignore[attr-defined]
            next_at=_next_at(each),
        )
        for each in in_order
    ]


def _next_at(endpoint: CallbackEndpoint) -> datetime | None:
    """Return when something is sent to it again; None if nothing waits."""
    next_due: datetime | None = endpoint.next_due  # type: ignore[attr-defined]
    if next_due is None or endpoint.failures < endpoints.FAILS_AFTER:
        return next_due
    return max(next_due, endpoint.probe_at)


def _suggested(account: Account, failing: list[_Endpoint]) -> list[str]:
    """Return servers to suggest: those of the account's numbers, and those that fail."""
    numbers = PhoneNumber.objects.of(account).order_by("-created_at")
    urls = numbers.values_list("on_call_end_url", "on_error_url")[:MOST_NUMBERS]
    of_numbers = {shown(origin_of(url)) for pair in urls for url in pair if url}
    return sorted(of_numbers | {each.origin for each in failing})


def _row(delivery: CallbackDelivery) -> dict[str, Any]:
    return {
        "delivery": delivery,
        "is_pending": delivery.state == CallbackDelivery.State.PENDING,
        "label": delivery_label(delivery),
        "tone": delivery_tone(delivery),
        "origin": shown(origin_of(delivery.url)),
        "result": result_words(delivery.last_result),
    }


urlpatterns = [
    path("dashboard/callbacks", callbacks, name="callbacks"),
    path("dashboard/callbacks/send", send_all, name="callbacks-send"),
    path("dashboard/callbacks/<str:id>/send", send, name="callback-send"),
    path("dashboard/deliveries/<str:id>/resend", send_from_call, name="callback-resend"),
]
