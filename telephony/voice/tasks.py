"""Jobs that end the calls that nothing else ends."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from procrastinate.contrib.django import app

from core.queue import lanes
from telephony import greetings
from telephony.call_log import bind_call
from telephony.db import in_database
from telephony.engine.codes import EndedReason, EventKind
from telephony.models import Call, Process
from telephony.services import call_end, call_note
from telephony.voice.handover import forget_expired_plans
from telephony.voice.heartbeat import keep_sweeping

# The engine waits for the last transcript, and may have to retry its own record.
CLOSE_AFTER = timedelta(seconds=8)


@app.task(queue=lanes.CALLS)
def close_call(*, call_id: str, ended_at: str, status: str = "") -> None:
    """End a call that Twilio reports as ended before it had audio.

    Anybody who knows one of the call's links can report that, first of all its owner. So the record
    of a call with audio follows the socket. If its engine is dead, the sweep ends it.
    """
    call = Call.objects.get(pk=call_id)
    bind_call(call)
    if call.ended_at is not None:
        return
    if call.answered_at is None:
        call_end(call_id=call_id, status=Call.Status.FAILED, reason=EndedReason.FAILED)
        return
    since = datetime.fromisoformat(ended_at)
    moved = call.events.filter(kind=EventKind.MOVED, at__gt=since - CLOSE_AFTER)
    has_another_stream = call.answered_at > since or moved.exists()
    if not (call.audio_ended_at or has_another_stream) and _has_engine(call, since=since):
        call_note(call, EventKind.STATUS_IGNORED, status=status)


def _has_engine(call: Call, *, since: datetime) -> bool:
    """Return True if the call's engine reported the call well after ``since``."""
    engines = Process.objects.filter(pk=call.engine_id)
    return engines.filter(last_seen_at__gt=since + CLOSE_AFTER / 2).exists()


@app.task(queue=lanes.CALLS)
def close_unconnected(*, call_id: str) -> None:
    """End a test call whose browser never connected. For other calls Twilio reports this."""
    if Call.objects.live().filter(pk=call_id, answered_at=None).exists():
        call_end(call_id=call_id, status=Call.Status.CANCELED, reason=EndedReason.CANCELED)


@app.periodic(cron="* * * * *")
@app.task(queue=lanes.CALLS, queueing_lock="end_stale_calls")
async def end_stale_calls(timestamp: int) -> None:
    """Have this worker end the calls of dead engines, and delete expired plans and greetings."""
    keep_sweeping()
    await in_database(forget_expired_plans, timezone.now())
    await in_database(greetings.forget_expired, timezone.now())
