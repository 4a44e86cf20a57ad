"""The calls in progress, in words: the part of the overview that refreshes itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.models import Account
from core.pages import page
from dashboard.access import PageRequest, for_customer, reason_not_active
from dashboard.call_words import length
from telephony.models import Call

# The most calls in progress that are listed. An account may have more.
LIVE_AT_MOST = 50


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call in progress; ``seconds`` is the time since it began or, once it talks, since then."""

    call: Call
    state: str
    tone: str
    since: datetime
    seconds: int

    @property
    def lasted(self) -> str:
        return length(self.seconds)


@for_customer
@require_safe
def live(request: PageRequest) -> HttpResponse:
    """The calls in progress, as the part of the page that refreshes itself."""
    if not request.htmx:
        return redirect("overview")
    return page(request, "dashboard/live_calls.html", live_calls(request.user))


def live_calls(account: Account) -> dict[str, Any]:
    """Return the context of ``live_calls.html``, with one query."""
    calls = Call.objects.of(account).live().order_by("-created_at", "-id")
    found, now = list(calls[: LIVE_AT_MOST + 1]), timezone.now()
    return {
        "live_calls": [_live_call(call, now) for call in found[:LIVE_AT_MOST]],
        "has_more": len(found) > LIVE_AT_MOST,
        "may_hang_up": not reason_not_active(account),
    }


def state_of(call: Call) -> tuple[str, str]:
    """Return what a call in progress is doing, and how its badge looks."""
    if call.hangup_requested_at:
        return "Ending", ""
    if call.answered_at and not call.engine_id:
        return "Reconnecting", "note"
    if call.audio_ended_at:
        return "Ending", ""
    if call.answered_at:
        return "Talking", "good"
    if call.direction == Call.Direction.OUTBOUND:
        return ("Queued" if call.status == Call.Status.QUEUED else "Ringing"), "note"
    return ("Connecting" if call.accepted_at else "Waiting for your backend"), "note"


def _live_call(call: Call, now: datetime) -> LiveCall:
    since = call.answered_at or call.created_at
    state, tone = state_of(call)
    return LiveCall(call, state, tone, since, max(0, int((now - since).total_seconds())))


urlpatterns = [path("dashboard/live", live, name="live-calls")]
