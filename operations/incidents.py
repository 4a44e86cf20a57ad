"""Incidents: operators are told once when a condition is met, and once when it is over.

- A condition is an incident once it has been met for :data:`HOLDS_FOR`, and over once it has not
  been met for :data:`CLEAR_FOR`. So one that comes and goes is one incident.
- Operators are told of the same condition at most once in :data:`AGAIN_AFTER`, and of at most
  :data:`MOST_AN_HOUR` incidents an hour. One that still lasts then is told of then.
- An event, such as a crash, is treated as a condition that is met for :data:`RECENT` after it.

Every process looks, because a worker that is dead cannot report itself: they take turns. Engines
look only at the processes, which takes one short query.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Literal

import structlog
from django.db import connection, transaction
from django.utils import timezone

from core.outages import is_outage
from operations import notices
from operations.conditions import BY_KEY, CONDITIONS, Condition, Facts, Finding, Severity
from operations.models import Incident, Notice

log = structlog.get_logger(__name__)

HOLDS_FOR = timedelta(minutes=2)
CLEAR_FOR = timedelta(minutes=5)
RECENT = timedelta(hours=1)
AGAIN_AFTER = timedelta(hours=1)
MOST_AN_HOUR = 10
KEPT_FOR = timedelta(days=90)
# Nobody looked for so long that a condition may not have been met all the time.
_UNWATCHED = timedelta(minutes=3)

Scope = Literal["processes", "rest"]
_LOOK_EVERY: Mapping[Scope, timedelta] = {
    "processes": timedelta(seconds=15),
    "rest": timedelta(seconds=60),
}
# The row is locked until the end of the transaction, so two processes never look at once.
_TAKE_TURN = """
    INSERT INTO operations_look AS look (scope, looked_at) VALUES (%(scope)s, clock_timestamp())
    ON CONFLICT (scope) DO UPDATE SET looked_at = clock_timestamp()
    WHERE look.looked_at < clock_timestamp() - %(every)s::interval
    RETURNING looked_at
"""


@transaction.atomic
def incidents_look(*, scope: Scope) -> None:
    """Look at the conditions of a scope, if it is time to, and note what begins and ends."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_TURN, {"scope": scope, "every": str(_LOOK_EVERY[scope])})
        taken = cursor.fetchone()
    if taken is None:
        return
    (now,) = taken
    looked_at, found = _looked(_conditions(scope), Facts(now=now))
    incidents_note(looked_at=looked_at, found=found, now=now)


def _conditions(scope: Scope) -> list[Condition]:
    is_of_processes = scope == "processes"
    return [
        condition
        for condition in CONDITIONS
        if condition.is_of_processes == is_of_processes and condition.severity != Severity.INFO
    ]


def _looked(
    conditions: Collection[Condition], facts: Facts
) -> tuple[list[str], dict[str, Finding]]:
    """Return the keys that could be looked at, and what was found: one that fails fails alone."""
    looked_at, found = [], {}
    for condition in conditions:
        try:
            with transaction.atomic():
                finding = condition.find(facts)
        except Exception as error:
            if is_outage(error):
                raise
            log.exception("condition_failed", condition=condition.key, exc_info=error)
            continue
        looked_at.append(condition.key)
        if finding and (finding.newest is None or finding.newest > facts.now - RECENT):
            found[condition.key] = finding
    return looked_at, found


@transaction.atomic
def incidents_note(
    *, looked_at: Collection[str], found: Mapping[str, Finding], now: datetime
) -> None:
    """Begin, continue or end the incidents of the keys that were looked at."""
    opened = Incident.objects.select_for_update().filter(key__in=looked_at, ended_at=None)
    known = {incident.key: incident for incident in opened}
    for key, finding in found.items():
        new = Incident(key=key, began_at=now, seen_at=now)
        _go_on(known.pop(key, new), BY_KEY[key], finding, now)
    for incident in known.values():
        _clear(incident, now)


def _go_on(incident: Incident, condition: Condition, finding: Finding, now: datetime) -> None:
    if incident.confirmed_at is None and incident.seen_at < now - _UNWATCHED:
        incident.began_at = now
    incident.severity = condition.severity
    incident.text = f"{finding.text} {condition.label_of(finding)}"
    incident.seen_at, incident.clear_since = now, None
    is_news = (
        incident.confirmed_at is None
        and incident.began_at <= now - HOLDS_FOR
        and _may_tell(incident.key, now)
    )
    if is_news:
        incident.confirmed_at = now
    incident.save()
    if is_news:
        log.warning("incident_began", condition=incident.key, found=incident.text)
        notices.tell(incident, Notice.Event.BEGAN, now)


def _may_tell(key: str, now: datetime) -> bool:
    if Incident.objects.filter(key=key, confirmed_at__gt=now - AGAIN_AFTER).exists():
        return False
    told = Incident.objects.filter(confirmed_at__gt=now - timedelta(hours=1))
    return told.count() < MOST_AN_HOUR


def _clear(incident: Incident, now: datetime) -> None:
    if incident.clear_since is None:
        incident.clear_since = now
    if incident.clear_since > now - CLEAR_FOR:
        incident.save(update_fields=["clear_since"])
    elif incident.confirmed_at is None:
        incident.delete()
    else:
        incident.ended_at = incident.clear_since
        incident.save(update_fields=["clear_since", "ended_at"])
        log.warning("incident_ended", condition=incident.key)
        notices.tell(incident, Notice.Event.ENDED, now)


def incidents_forget() -> None:
    """Delete incidents that ended long ago."""
    Incident.objects.filter(ended_at__lt=timezone.now() - KEPT_FOR).delete()
