"""Ends the calls that dead engines left behind, and that no other engine has taken up.

An engine writes a heartbeat (``telephony.voice.heartbeat``). An engine without one for
``LOST_AFTER``, while the database was reachable, is considered dead, and its calls are ended.
Whichever process looks next does that, engines and workers alike. After an outage of the database,
no engine is considered dead until all have had the time to write again. An engine that was merely
cut off finds its calls ended, and resumes them (``telephony.services.call_resume``).

All times are the database's.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import connection
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now

from core.sweeps import each_alone
from telephony.call_log import bind_call
from telephony.engine.codes import EndedReason
from telephony.models import Call, CallQuerySet, Process, SealedPlan
from telephony.services import call_end, call_end_lost, call_leave_alone

log = structlog.get_logger(__name__)

LOST_AFTER = timedelta(seconds=8)
# An engine reports the calls that it holds (``telephony.voice.live``). A call that it has not
# reported for this long is no longer held.
UNHELD_AFTER = timedelta(seconds=60)
# Sweeps that are further apart have a gap between them, in which heartbeats may have failed.
GAP = timedelta(seconds=4)
# Processes take turns: a sweep is skipped if another process swept more recently than this.
LOOK_EVERY = timedelta(seconds=0.7)
# A process that is up has written a heartbeat this recently.
UP_WITHIN = timedelta(seconds=5)

# The most that one sweep ends.
SWEPT_AT_ONCE = 1000

_LOOK = """
    INSERT INTO telephony_watch AS watch (id, since, looked_at)
    VALUES (1, clock_timestamp(), clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET
        since = CASE
            WHEN watch.looked_at < clock_timestamp() - %(gap)s::interval THEN clock_timestamp()
            ELSE watch.since
        END,
        looked_at = clock_timestamp()
    WHERE watch.looked_at < clock_timestamp() - %(every)s::interval
    RETURNING since, looked_at
"""


def are_others_ready(engine_id: str) -> bool:
    """Return True if another engine accepts new calls."""
    others = Process.objects.engines().exclude(pk=engine_id).filter(is_draining=False)
    return others.filter(last_seen_at__gt=Now() - UP_WITHIN).exists()


def calls_sweep() -> int:
    """Find dead engines and end stale calls; return how many calls were ended.

    Every process may run this at any time: they share the work.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, {"gap": str(GAP), "every": str(LOOK_EVERY)})
        looked = cursor.fetchone()
    if looked is None:
        return 0
    since, now = looked
    return calls_end_stale(now, watched_for=now - since)


def calls_end_stale(now: datetime, *, watched_for: timedelta = timedelta.max) -> int:
    """End the calls whose engine is gone or no longer holds them, and those that never had one.

    :param watched_for: how long the database has been reachable without a gap. :return: how many.
    """
    live = Call.objects.live().to_be_swept(now)
    count = 0
    if watched_for > LOST_AFTER:
        _strike_off(now)
        orphans = live.orphans().filter(last_seen_at__lt=now - LOST_AFTER)
        tickets = SealedPlan.objects.filter(call=OuterRef("pk"), expires_at__gt=now)
        count += _end_all(orphans.exclude(Exists(tickets)))  # a ticket: it is moving
    if watched_for > UNHELD_AFTER:
        count += _end_all(live.filter(last_seen_at__lt=now - UNHELD_AFTER))
    # Those that wait for a stream: their first, or one to another engine.
    is_waiting = Q(last_seen_at=None) | Q(engine_id="", answered_at__isnull=False)
    return count + _end_all(live.filter(is_waiting, held_until__lt=now))


def _strike_off(now: datetime) -> None:
    """Take the silent engines for dead. They held their calls until their last heartbeat."""
    silent = Process.objects.engines().filter(last_seen_at__lt=now - LOST_AFTER)

    def strike(engine_id: str) -> bool:
        engine = silent.select_for_update(skip_locked=True).filter(pk=engine_id).first()
        if engine is None:
            return False
        log.warning(
            "engine_lost",
            host=engine.host,
            pid=engine.pid,
            last_seen_at=engine.last_seen_at,
        )
        held = Call.objects.live().filter(engine_id=engine_id, last_seen_at__gt=F("answered_at"))
        held.filter(last_seen_at__lt=engine.last_seen_at).update(last_seen_at=engine.last_seen_at)
        engine.lost_at, engine.calls = now, 0
        engine.save(update_fields=["lost_at", "calls"])
        return True

    ids = list(silent.values_list("pk", flat=True))
    each_alone(
        ids, strike, what="loss of an engine", logged_as="engine_id", back_off=lambda _: None
    )


def _end_all(calls: CallQuerySet) -> int:
    """End the calls that still match the query when their turn comes."""

    def end(call_id: str) -> bool:
        call = calls.filter(pk=call_id).select_for_update(skip_locked=True).first()
        if call is None:
            return False
        bind_call(call)
        if call.last_seen_at is None:
            return call_end(call_id=call_id, status=Call.Status.FAILED, reason=EndedReason.FAILED)
        if not call.engine_id and call.audio_ended_at:  # its stream broke, and no other came
            return call_end(
                call_id=call_id,
                status=Call.Status.COMPLETED,
                reason=EndedReason.CALLER_HANGUP,
                ended_at=call.audio_ended_at,
            )
        return call_end_lost(call_id=call_id, ended_at=call.audio_ended_at or call.last_seen_at)

    ids = list(calls.values_list("pk", flat=True)[:SWEPT_AT_ONCE])
    return each_alone(
        ids, end, what="end of a call", logged_as="call_id", back_off=call_leave_alone
    )
