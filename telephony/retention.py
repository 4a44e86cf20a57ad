"""Deletes what operators do not want to keep: calls, timelines and callbacks of a certain age.

By default everything is kept. Usage records, totals, meter events and statistics stay in any case,
and so do calls in progress, and calls whose callbacks are still being delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from core.database import partitions
from core.ids import first_id_of
from core.sweeps import together_or_alone
from telephony.models import Call, CallbackDelivery, Timeline

_AT_ONCE = 500
_PENDING = CallbackDelivery.objects.filter(
    call=OuterRef("pk"), state=CallbackDelivery.State.PENDING
)


def forget_old(*, within: timedelta) -> dict[str, int]:
    """Delete what is too old; return how many calls and callbacks that was.

    It stops after ``within``, and the next run goes on from there. Timelines go by whole months.
    """
    until = monotonic() + within.total_seconds()
    if timelines := timelines_since():
        partitions.drop_before(Timeline._meta.db_table, timelines)
    counts = {"calls": 0, "callbacks": 0}
    if before := _ago(settings.RETAIN_CALLS_DAYS):
        ended = Call.objects.filter(ended_at__isnull=False).exclude(Exists(_PENDING))
        counts["calls"] = _delete(ended, before, "delete an old call", until)
    if before := _ago(settings.RETAIN_CALLBACKS_DAYS):
        done = CallbackDelivery.objects.exclude(state=CallbackDelivery.State.PENDING)
        counts["callbacks"] = _delete(done, before, "delete an old callback", until)
    return counts


def timelines_since() -> datetime | None:
    """Return the time before which calls have no timeline; None if all have one."""
    days = [each for each in (settings.RETAIN_CALLS_DAYS, settings.RETAIN_TIMELINES_DAYS) if each]
    return _ago(min(days)) if days else None


def is_without_timeline(call: Call) -> bool:
    """Return True if the timeline of such an old call is deleted."""
    since = timelines_since()
    return since is not None and call.created_at < since


def _ago(days: int) -> datetime | None:
    return timezone.now() - timedelta(days=days) if days else None


def _delete(found: QuerySet[Any], before: datetime, what: str, until: float) -> int:
    """Delete rows that were created before a time, the oldest first; return how many."""
    old = found.filter(pk__lt=first_id_of(before)).order_by("pk").values_list("pk", flat=True)
    count, last = 0, ""

    def delete(ids: Sequence[str]) -> None:
        found.model._default_manager.filter(pk__in=ids).delete()

    while monotonic() < until and (ids := list(old.filter(pk__gt=last)[:_AT_ONCE])):
        count += together_or_alone(ids, delete, what=what)
        last = ids[-1]
    return count
