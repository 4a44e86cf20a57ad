"""The account's activity: who did what to it, when, and from where."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from accounts.audit import AuditEvent
from dashboard.access import PageRequest, for_customer
from dashboard.keyset import Cursor, page_of
from dashboard.rendering import room

HERE = "/dashboard/settings/activity"
PAGE_SIZE = 50


@for_customer
@require_safe
def activity(request: PageRequest) -> HttpResponse:
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    page = page_of(
        AuditEvent.objects.of(request.user),
        size=PAGE_SIZE,
        before=Cursor.read(before),
        after=Cursor.read(after),
    )
    context = {
        "rows": [{"event": event, "detail": _detail(event.detail)} for event in page.rows],
        "is_first": not (before or after),
        "newest": HERE,
        "newer": f"{HERE}?before={page.before}" if page.before else "",
        "older": f"{HERE}?after={page.after}" if page.after else "",
    }
    return room(request, "/dashboard/settings", "dashboard/activity.html", context)


def _detail(detail: dict[str, Any]) -> str:
    """Return what there is to know beside the action; of ids, programs are told."""
    shown = {name: value for name, value in detail.items() if name != "id" and value != ""}
    if {"before", "after"} <= set(shown):
        shown = {"": f"{shown.pop('before')} → {shown.pop('after')}"} | shown
    return ", ".join(f"{name}: {value}" if name else value for name, value in shown.items())


urlpatterns = [path("dashboard/settings/activity", activity, name="activity")]
