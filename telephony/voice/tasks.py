"""Jobs that end the calls which nobody else ends."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.utils import timezone
from procrastinate.contrib.django import app

from config import lanes
from config.jobs import defer
from telephony.models import Call
from telephony.services import call_end, call_end_lost, call_note, calls_end_stale
from telephony.voice.handover import forget_expired_plans

log = structlog.get_logger(__name__)

# The engine waits 2 s for the last transcript, and may have to try its own record again.
CLOSE_AFTER = timedelta(seconds=8)
# An engine says every 15 s which calls it holds (``telephony.voice.live``).
SILENT_AFTER = timedelta(seconds=30)

CLOSE_TASK = "telephony.voice.tasks.close_call"


@app.task(queue=lanes.CALLS)
def close_call(*, call_id: str, ended_at: str, status: str = "") -> None:
    """End a call that is said to be over, unless it has ended, or an engine holds it after that.

    Whoever knows a link of the call's can say so, its owner above all: the record follows the
    socket, and while an engine speaks for the call its socket is open.
    """
    call, said_at = Call.objects.get(pk=call_id), datetime.fromisoformat(ended_at)
    if call.ended_at is not None:
        return
    if call.answered_at is None:
        call_end(call_id=call_id, status=Call.Status.FAILED, reason="failed")
        return
    last_seen = call.last_seen_at or call.answered_at
    if last_seen > said_at + CLOSE_AFTER:
        call_note(call, "status_ignored", status=status)
    elif (silent_from := last_seen + SILENT_AFTER) > timezone.now():
        defer(
            CLOSE_TASK,
            at=silent_from,
            only_one=f"close_call {call_id}",
            call_id=call_id,
            ended_at=ended_at,
            status=status,
        )
    elif call_end_lost(call_id=call_id, ended_at=max(said_at, last_seen)):
        log.warning("call_closed_for_its_engine", call_id=call_id)


@app.task(queue=lanes.CALLS)
def close_unconnected(*, call_id: str) -> None:
    """End a test call whose browser never came; of other calls Twilio tells."""
    if Call.objects.live().filter(pk=call_id, answered_at=None).exists():
        call_end(call_id=call_id, status=Call.Status.CANCELED, reason="canceled")


@app.periodic(cron="* * * * *")
@app.task(queue=lanes.CALLS, queueing_lock="end_stale_calls")
def end_stale_calls(timestamp: int) -> None:
    """End the calls whose engine has died, and forget the plans that nobody came for."""
    now = timezone.now()
    if count := calls_end_stale(now):
        log.warning("stale_calls_ended", count=count)
    forget_expired_plans(now)
