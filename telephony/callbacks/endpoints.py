"""Endpoints that fail: what is known of them, and when their deliveries are held back.

An endpoint is a server as one account uses it: two customers with the same host do not affect each
other. It fails from the first attempt without a 2xx response until the next 2xx. If it fails for an
hour, its owner is told (``telephony.incidents``).

Of these attempts, we count consecutive ones without any response (a timeout, no connection); any
response, even an error, ends that count. From the third on, its deliveries are held back, and we
send only a probe: after half a minute, then after a minute, up to every five minutes. A probe is a
normal attempt of its delivery, so each delivery keeps its schedule. A delivery that is held back
uses up no attempts, and is given up once no schedule would still be running. The first response
releases all of them.

All decisions are made under the account's lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from core.queue.jobs import Queued, defer_many
from telephony import incidents
from telephony.callback_urls import address_of
from telephony.callbacks.attempts import Result
from telephony.callbacks.client import TimedOut, Unreachable
from telephony.callbacks.origins import origin_of
from telephony.models import CallbackDelivery, CallbackEndpoint

PROBE_TASK = "telephony.tasks.probe_endpoint"

HELD_BACK = "endpoint_failing"  # the result of a delivery that is held back
FAILS_AFTER = 3
FIRST_PROBE, LONGEST_PROBE = timedelta(seconds=30), timedelta(minutes=5)
_RELEASED_AT_ONCE = 1000
_NO_ANSWER = frozenset({TimedOut.code, Unreachable.code})

Key = tuple[str, str]  # the account's id, the origin


@dataclass(slots=True)
class Failing:
    """An endpoint that does not respond, and the decision about its due deliveries."""

    id: int
    may_be_probed: bool
    held: list[str] = field(default_factory=list)
    probe_for: timedelta | None = None

    def begin_probe(self, at_most: timedelta) -> None:
        """Let one delivery try, and no other until it has ended or its worker has died."""
        self.may_be_probed, self.probe_for = False, at_most


def key_of(delivery: CallbackDelivery) -> Key:
    return delivery.account_id, origin_of(delivery.url)


def failing_of(deliveries: Iterable[CallbackDelivery]) -> dict[Key, Failing]:
    """Return the endpoints of these deliveries that do not respond."""
    found = _known(map(key_of, deliveries)).filter(failures__gte=FAILS_AFTER)
    is_due = ExpressionWrapper(Q(probe_at__lte=Now()), BooleanField())
    rows = found.annotate(is_due=is_due).values_list("account_id", "origin", "id", "is_due")
    return {(account_id, origin): Failing(id, due) for account_id, origin, id, due in rows}


def save_decisions(endpoints: Iterable[Failing]) -> None:
    """Save which deliveries are held back, and which endpoints are being probed."""
    for endpoint in endpoints:
        if endpoint.held:
            held = CallbackDelivery.objects.filter(pk__in=endpoint.held)
            held.update(held_by=endpoint.id, last_result=HELD_BACK)
        if endpoint.probe_for is not None:
            this = CallbackEndpoint.objects.filter(pk=endpoint.id)
            this.update(probe_at=Now() + endpoint.probe_for)


def note_all(attempts: Iterable[tuple[CallbackDelivery, Result]]) -> None:
    """Save how attempts ended. An endpoint's first response releases its deliveries."""
    ended = [(delivery, key_of(delivery), result) for delivery, result in attempts]
    stored = _known(key for _, key, _ in ended)
    known = {(each.account_id, each.origin): each for each in stored}
    changed: dict[Key, CallbackEndpoint] = {}
    for delivery, key, result in ended:
        if key not in known and result.delivered:
            continue
        endpoint = known.setdefault(key, CallbackEndpoint(account_id=key[0], origin=key[1]))
        if result.delivered:
            _has_accepted(endpoint, result)
        else:
            _has_failed(endpoint, delivery, result)
        changed[key] = endpoint
    for endpoint in changed.values():
        if endpoint.failures:
            _save_for_probe(endpoint)
        elif endpoint.failed_attempts:
            _release(endpoint)
        elif endpoint.pk and _release(endpoint) < _RELEASED_AT_ONCE:
            endpoint.delete()


def probe_now(endpoint: CallbackEndpoint) -> None:
    """Queue a probe at once, besides the one that is scheduled."""
    only_one = f"probe {endpoint.id} now"
    defer_many(PROBE_TASK, [Queued({"endpoint_id": endpoint.id}, only_one=only_one)])


def queue_lost_probes(overdue: timedelta) -> None:
    """Queue probes that were lost in a crash."""
    lost = CallbackEndpoint.objects.filter(
        failures__gte=FAILS_AFTER, probe_at__lt=Now() - overdue, held__isnull=False
    )
    ids = lost.distinct().values_list("id", flat=True)
    defer_many(PROBE_TASK, [_probe(id) for id in ids])


def _known(keys: Iterable[Key]) -> QuerySet[CallbackEndpoint]:
    """Return the stored endpoints of these keys, and perhaps of others."""
    known = set(keys)
    return CallbackEndpoint.objects.filter(
        account_id__in={account_id for account_id, _ in known},
        origin__in={origin for _, origin in known},
    )


def _has_accepted(endpoint: CallbackEndpoint, result: Result) -> None:
    if endpoint.pk:
        incidents.endpoint_recovered(endpoint, at=result.at)
    endpoint.failures = endpoint.failed_attempts = 0
    endpoint.alert_at = None


def _has_failed(endpoint: CallbackEndpoint, delivery: CallbackDelivery, result: Result) -> None:
    if not endpoint.failed_attempts:
        endpoint.failing_since = result.at
    endpoint.failures = endpoint.failures + 1 if result.text in _NO_ANSWER else 0
    endpoint.failed_attempts += 1
    endpoint.failed_at = result.at
    endpoint.last_result = result.text
    endpoint.last_url = address_of(delivery.url)
    incidents.endpoint_failed(endpoint)


def _save_for_probe(endpoint: CallbackEndpoint) -> None:
    wait = timedelta(0)
    if endpoint.failures >= FAILS_AFTER:
        wait = FIRST_PROBE * 2 ** min(endpoint.failures - FAILS_AFTER, 10)
    endpoint.probe_at = timezone.now() + min(wait, LONGEST_PROBE)
    endpoint.save()
    if wait:
        defer_many(PROBE_TASK, [_probe(endpoint.id, endpoint.probe_at)])


def _release(endpoint: CallbackEndpoint) -> int:
    """Release deliveries; return their number. The next response releases the rest."""
    endpoint.save()
    some = endpoint.held.order_by("due_at").values("pk")[:_RELEASED_AT_ONCE]
    return CallbackDelivery.objects.filter(pk__in=some).update(held_by=None)


def _probe(endpoint_id: int, at: datetime | None = None) -> Queued:
    return Queued({"endpoint_id": endpoint_id}, at=at, only_one=f"probe {endpoint_id}")
