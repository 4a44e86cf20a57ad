"""The account's activity: who did what to it, when, and from where."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path, reverse
from django.views.decorators.http import require_safe

from accounts.audit import AuditEvent
from core.keyset import Cursor, page_of
from dashboard.access import PageRequest, for_customer
from dashboard.rendering import dashboard_page

PAGE_SIZE = 50


@for_customer
@require_safe
def activity(request: PageRequest) -> HttpResponse:
    here = reverse("activity")
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
        "newest": here,
        "newer": f"{here}?before={page.before}" if page.before else "",
        "older": f"{here}?after={page.after}" if page.after else "",
    }
    return dashboard_page(request, "settings", "dashboard/activity.html", context)


# Names and values of the API, in the words of the pages.
_NAMES = {"what": "", "twilioAccount": "Twilio account"}
_WHAT = {
    "totp_added": "authenticator app",
    "totp_removed": "authenticator app",
    "passkey_added": "passkey",
    "passkey_removed": "passkey",
    "recovery_codes_renewed": "",
    "recovery_code_used": "",
    "all_removed": "all of them",
}


def _detail(detail: dict[str, Any]) -> str:
    """Return the details of an event in words, without ids: those are for API clients."""
    said = {name: _said(name, value) for name, value in detail.items() if name != "id"}
    shown = {_NAMES.get(name, name): value for name, value in said.items() if value != ""}
    if {"before", "after"} <= set(shown):
        shown = {"": f"{shown.pop('before')} → {shown.pop('after')}"} | shown
    return ", ".join(f"{name}: {value}" if name else value for name, value in shown.items())


def _said(name: str, value: Any) -> Any:
    match name:
        case "what":
            return _WHAT.get(value, value)
        case "changed":
            return value.replace("_", " ")
        case _:
            return value


urlpatterns = [path("dashboard/settings/activity", activity, name="activity")]
