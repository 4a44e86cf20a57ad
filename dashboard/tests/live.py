"""Calls that are on, as their engines have them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from accounts.models import Account
from dashboard.tests.test_settings import call_of
from telephony.models import Call
from telephony.services import call_end


def live_call_of(account: Account, number: int, *, minutes: int) -> Call:
    """A call that is in its so many\'th minute."""
    now = timezone.now()
    answered_at = now - timedelta(minutes=minutes, seconds=-20)
    times = dict.fromkeys(("accepted_at", "answered_at", "billed_from"), answered_at)
    return call_of(account, number, last_seen_at=now, **times)


def hang_up(call: Call, *, ended_at: datetime | None = None) -> None:
    """Act as its engine does on request, by default at once."""
    call.refresh_from_db()
    assert call.hangup_requested_at
    call_end(call_id=call.id, status=Call.Status.COMPLETED, reason="api_hangup", ended_at=ended_at)
