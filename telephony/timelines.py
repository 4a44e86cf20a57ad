"""The timelines of calls: in one row for each event at first, later compressed in one for the call.

An event takes some 200 bytes with its indexes, and a call of some minutes has 50. Compressed, they
take 500 bytes together. A call's events are packed a day after it ended, when hardly anything is
added any more; what is added later is packed as well.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import monotonic
from typing import Any

from django.db import connection
from django.utils import timezone

from core.database import partitions
from core.sweeps import together_or_alone
from telephony.models import Call, CallEvent, Timeline

PACKED_AFTER = timedelta(days=1)
_EVENTS_AT_ONCE = 10_000
_CALLS_AT_ONCE = 200
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Each event is returned to one process only, so that it is packed once.
_TAKE = """
    DELETE FROM telephony_callevent WHERE call_id = ANY(%s)
    RETURNING call_id, at, id, kind, detail::text
"""


def timeline_of(call: Call, *, newest: int | None = None) -> list[CallEvent]:
    """Return a call's events, the oldest first, as unsaved ones if they are packed.

    :param newest: the most that are returned, of the newest.
    """
    events = _loose(call, newest)
    if packed := Timeline.objects.filter(pk=call.pk).first():
        # Again: they may have been packed between the two queries.
        both = unpacked(packed, newest) + _loose(call, newest)
        events = sorted(both, key=lambda event: event.at)
    return events if newest is None else events[-newest:]


def _loose(call: Call, newest: int | None) -> list[CallEvent]:
    return list(CallEvent.objects.filter(call=call).order_by("-at", "-id")[:newest])[::-1]


def pack(entries: Sequence[tuple[datetime, str, Any]]) -> bytes:
    """Compress entries of a timeline: JSON of ``[ms, kind, detail]``, each after the one before."""
    times = [0, *((at - _EPOCH) // _MILLISECOND for at, _, _ in entries)]
    lines = [
        [now - before, kind, detail]
        for (before, now), (_, kind, detail) in zip(pairwise(times), entries, strict=True)
    ]
    return zlib.compress(json.dumps(lines, separators=(",", ":")).encode(), 9)


def unpacked(timeline: Timeline, newest: int | None = None) -> list[CallEvent]:
    entries = json.loads(zlib.decompress(timeline.packed))
    first = 0 if newest is None else max(0, len(entries) - newest)
    ms = sum(after for after, _, _ in entries[:first])
    events = []
    for after, kind, detail in entries[first:]:  # most of the time goes into making these
        ms += after
        events.append(
            CallEvent(
                account_id=timeline.account_id,
                call_id=timeline.call_id,
                at=_EPOCH + ms * _MILLISECOND,
                kind=kind,
                detail=detail,
            )
        )
    return events


def timelines_pack(*, within: timedelta) -> int:
    """Pack the events of calls that ended a day ago or earlier; return the number of calls.

    It stops after ``within``, and the next run goes on with the oldest events that are left.
    """
    until, count, last = monotonic() + within.total_seconds(), 0, 0
    while monotonic() < until:
        before = timezone.now() - PACKED_AFTER
        events = CallEvent.objects.filter(id__gt=last).order_by("id")
        rows = list(events.values_list("id", "at", "call_id")[:_EVENTS_AT_ONCE])
        ids = list(dict.fromkeys(call_id for _, at, call_id in rows if at < before))
        if not ids:  # The rest is newer still.
            break
        last = rows[-1][0]
        ended = Call.objects.filter(pk__in=ids, ended_at__lt=before)
        calls = list(ended.order_by("pk").values_list("pk", flat=True))
        partitions.ensure(Timeline._meta.db_table, map(partitions.month_of, calls))
        for start in range(0, len(calls), _CALLS_AT_ONCE):
            some = calls[start : start + _CALLS_AT_ONCE]
            count += together_or_alone(some, _pack_calls, what="pack the timeline of a call")
    return count


def _pack_calls(call_ids: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [list(call_ids)])
        taken = sorted(cursor.fetchall())
    new: defaultdict[str, list[tuple[datetime, str, Any]]] = defaultdict(list)
    for call_id, at, _, kind, detail in taken:
        new[call_id].append((at, kind, json.loads(detail)))
    known = Timeline.objects.in_bulk(list(new))
    accounts = dict(Call.objects.filter(pk__in=new).values_list("pk", "account_id"))
    Timeline.objects.bulk_create(
        (
            Timeline(
                call_id=call_id,
                account_id=accounts[call_id],
                packed=pack(_merged(known.get(call_id), entries)),
            )
            for call_id, entries in new.items()
        ),
        update_conflicts=True,
        unique_fields=["call"],
        update_fields=["packed"],
    )


def _merged(
    known: Timeline | None, entries: Iterable[tuple[datetime, str, Any]]
) -> list[tuple[datetime, str, Any]]:
    before = [(event.at, event.kind, event.detail) for event in unpacked(known)] if known else []
    return sorted([*before, *entries], key=lambda entry: entry[0])
