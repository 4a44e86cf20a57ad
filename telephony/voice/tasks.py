"""Jobs that end the calls which nobody else ends."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.utils import timezone
from procrastinate.contrib.django import app

from telephony.models import Call
from telephony.services import call_end, call_end_lost, calls_end_stale
from telephony.voice.handover import forget_expired_plans

log = structlog.get_logger(__name__)

# The engine waits 2 s for the last transcript, and may have to try its own record again.
CLOSE_AFTER = timedelta(seconds=8)


@app.task
def close_call(*, call_id: str, ended_at: str) -> None:
    """End a call that Twilio said was over, unless its engine has done that; once is enough."""
    call = Call.objects.get(pk=call_id)
    if call.answered_at is None:
        ended = call_end(call_id=call_id, status=Call.Status.FAILED, reason="failed")
    else:
        ended = call_end_lost(call_id=call_id, ended_at=datetime.fromisoformat(ended_at))
    if ended:
        log.warning("call_closed_for_its_engine", call_id=call_id)


@app.task
def close_unconnected(*, call_id: str) -> None:
    """End a test call whose browser never came; of other calls Twilio tells."""
    if Call.objects.live().filter(pk=call_id, answered_at=None).exists():
        call_end(call_id=call_id, status=Call.Status.CANCELED, reason="canceled")


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="end_stale_calls")
def end_stale_calls(timestamp: int) -> None:
    """End the calls whose engine has died, and forget the plans that nobody came for."""
    now = timezone.now()
    if count := calls_end_stale(now):
        log.warning("stale_calls_ended", count=count)
    forget_expired_plans(now)
