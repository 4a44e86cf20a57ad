"""What fails in an account, and when its owner is told: once when it fails, once when it is over.

- **An endpoint** that accepts no callback for :data:`FAILS_FOR` and at least
  :data:`FAILS_AFTER` attempts, whether it does not respond or responds with errors. It recovers
  with its first 2xx response. Of an endpoint that fails again and again, the owner is told at most
  every :data:`ENDPOINT_EVERY`; if it still fails then, that is when.
- **A callback that is given up**, at most once a day and endpoint, unless the owner was told that
  the endpoint fails.

The owner is told in the transaction that stores it (``telephony.notices`` queues the messages), and
under the account's lock, so once, however many workers there are and whichever of them dies.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from accounts.models import Account
from core.api import iso
from core.sweeps import each_alone
from telephony import notices
from telephony.callbacks.origins import origin_of, shown
from telephony.models import CallbackDelivery, CallbackEndpoint, Incident
from telephony.notices import Event

FAILS_FOR, FAILS_AFTER = timedelta(hours=1), 3
ENDPOINT_EVERY = timedelta(hours=6)
DAY = timedelta(days=1)
# The most incidents of a kind that an account is told about in a day.
MOST_A_DAY = 10

# Nothing was sent to it for so long that it may no longer exist.
STALE_AFTER = timedelta(days=7)
KEPT_FOR = timedelta(days=90)
_AT_ONCE = 1000
_PUT_OFF = timedelta(minutes=10)


# Endpoints. The callers of the first two hold the account's lock.


def endpoint_failed(endpoint: CallbackEndpoint) -> None:
    """Decide when its owner is told; the caller saves it."""
    if endpoint.failed_attempts == FAILS_AFTER:
        endpoint.alert_at = endpoint.failing_since + FAILS_FOR


def endpoint_recovered(endpoint: CallbackEndpoint, *, at: datetime) -> None:
    """Tell the owner, if they know that it failed."""
    incident = _open(endpoint)
    if incident is not None:
        incident.ended_at = at
        incident.save(update_fields=["ended_at"])
        notices.tell(incident, Event.RECOVERED)


def tell_of_endpoints() -> None:
    """Tell the owners of endpoints that have failed for long enough."""
    due = CallbackEndpoint.objects.filter(alert_at__lte=timezone.now()).order_by("alert_at")
    ids = list(due.values_list("id", flat=True)[:_AT_ONCE])
    each_alone(ids, _endpoint_tell, what="alert about an endpoint", back_off=_put_off)


def _endpoint_tell(endpoint_id: int) -> bool:
    account = _lock_of(endpoint_id)
    if account is None:
        return False
    now = timezone.now()
    found = CallbackEndpoint.objects.with_waiting().filter(pk=endpoint_id, alert_at__lte=now)
    endpoint = found.first()
    if endpoint is None:
        return False
    same = _told(account.pk, Incident.Kind.ENDPOINT, now - ENDPOINT_EVERY)
    last = same.filter(subject=endpoint.origin).first()
    endpoint.alert_at = (
        last.told_at + ENDPOINT_EVERY
        if last and last.told_at
        else _next_place(account.pk, Incident.Kind.ENDPOINT, now)
    )
    endpoint.save(update_fields=["alert_at"])
    if endpoint.alert_at is not None:
        return False
    incident = _begin(
        account.pk,
        Incident.Kind.ENDPOINT,
        endpoint.origin,
        began_at=endpoint.failing_since,
        now=now,
        facts={
            "endpoint": endpoint.last_url,
            "origin": shown(endpoint.origin),
            "result": endpoint.last_result,
            "attempts": endpoint.failed_attempts,
            "waiting": notices.counted(endpoint.waiting),  # type: ignore[attr-defined]
        },
    )
    notices.tell(incident, Event.FAILED)
    return True


def _put_off(endpoint_id: int) -> None:
    later = timezone.now() + _PUT_OFF
    CallbackEndpoint.objects.filter(pk=endpoint_id).update(alert_at=later)


def _open(endpoint: CallbackEndpoint) -> Incident | None:
    found = Incident.objects.filter(
        account_id=endpoint.account_id,
        kind=Incident.Kind.ENDPOINT,
        subject=endpoint.origin,
        ended_at=None,
    )
    return found.first()


# Callbacks that are given up


def callback_given_up(delivery: CallbackDelivery) -> None:
    """Tell the owner of a callback that was not delivered. The caller holds the account's lock."""
    now, subject = timezone.now(), origin_of(delivery.url)
    kinds = [Incident.Kind.ENDPOINT, Incident.Kind.GIVEN_UP]
    is_known = Q(told_at__gt=now - DAY) | Q(ended_at=None)
    of_it = Incident.objects.filter(account_id=delivery.account_id, subject=subject)
    if of_it.filter(is_known, kind__in=kinds).exists():
        return
    if _next_place(delivery.account_id, Incident.Kind.GIVEN_UP, now) is not None:
        return
    incident = _begin(
        delivery.account_id,
        Incident.Kind.GIVEN_UP,
        subject,
        began_at=delivery.created_at,
        now=now,
        ended_at=now,
        facts={
            "endpoint": delivery.url.partition("?")[0].partition("#")[0],
            "origin": shown(subject),
            "result": delivery.last_result,
            "attempts": delivery.attempts,
            "kind": delivery.kind,
            "call": delivery.call_id,
        },
    )
    notices.tell(incident, Event.FAILED)


# All kinds


def _begin(
    account_id: str,
    kind: Incident.Kind,
    subject: str,
    *,
    began_at: datetime,
    now: datetime,
    facts: dict[str, Any],
    ended_at: datetime | None = None,
) -> Incident:
    return Incident.objects.create(
        account_id=account_id,
        kind=kind,
        subject=subject,
        facts=facts | {"since": iso(began_at)},
        began_at=began_at,
        last_at=now,
        told_at=now,
        ended_at=ended_at,
    )


def _lock_of(endpoint_id: int) -> Account | None:
    """Lock the account of an endpoint, as a decision about its deliveries does."""
    theirs = CallbackEndpoint.objects.filter(pk=endpoint_id).values("account_id")
    return Account.objects.select_for_update(no_key=True).filter(pk__in=theirs).first()


def _told(account_id: str, kind: Incident.Kind, after: datetime) -> Any:
    """Return the incidents of a kind that the owner was told about since then, newest first."""
    told = Incident.objects.filter(account_id=account_id, kind=kind, told_at__gt=after)
    return told.order_by("-told_at")


def _next_place(account_id: str, kind: Incident.Kind, now: datetime) -> datetime | None:
    """Return when the owner may be told of another incident; None if they may be told now."""
    times = list(_told(account_id, kind, now - DAY).values_list("told_at", flat=True)[:MOST_A_DAY])
    return times[-1] + DAY if len(times) == MOST_A_DAY else None


def forget() -> None:
    """Close what nothing was heard of for a week, and delete what is over for long."""
    now = timezone.now()
    held = CallbackDelivery.objects.filter(held_by=OuterRef("pk"))
    stale = CallbackEndpoint.objects.filter(~Exists(held), failed_at__lt=now - STALE_AFTER)
    ids = list(stale.order_by("failed_at").values_list("id", flat=True)[:_AT_ONCE])
    each_alone(ids, _endpoint_forget, what="deletion of an endpoint", back_off=lambda _: None)
    old = Incident.objects.filter(last_at__lt=now - KEPT_FOR, ended_at__isnull=False)
    while Incident.objects.filter(pk__in=old.values("pk")[:_AT_ONCE]).delete()[0]:
        pass


def _endpoint_forget(endpoint_id: int) -> bool:
    if _lock_of(endpoint_id) is None:
        return False
    before = timezone.now() - STALE_AFTER
    endpoint = CallbackEndpoint.objects.filter(pk=endpoint_id, failed_at__lt=before).first()
    if endpoint is None:
        return False
    if incident := _open(endpoint):
        incident.ended_at = timezone.now()
        incident.save(update_fields=["ended_at"])
    endpoint.delete()
    return True
