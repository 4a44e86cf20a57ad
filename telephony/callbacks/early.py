"""Sending everything that waits for an endpoint before its schedule, when it is back.

A customer asks for it. A chain of jobs does it, so that no request and no transaction deals with
more than :data:`BATCH` deliveries, however many wait. The next batch follows when the last one was
sent, and only if the endpoint has accepted something since: asking while it still fails costs one
batch of attempts, which the schedule does not count (as for :func:`outbox.resend`). To an endpoint
that does not respond at all, only one is sent.

The chain goes through the deliveries in the order in which they are due, up to the last one that
was waiting at its beginning, so a delivery that fails again is not sent again and again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Account
from core.queue.jobs import Queued, defer, defer_many
from telephony.callbacks import endpoints, outbox
from telephony.callbacks.origins import shown
from telephony.models import CallbackDelivery, CallbackDeliveryQuerySet, CallbackEndpoint

TASK = "telephony.tasks.send_waiting"
BATCH = 100
_LOOK_AGAIN, _LOOK_SELDOM = timedelta(seconds=2), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Step:
    """How far a chain has come. Times are ISO 8601, as in a job's arguments.

    ``since`` is when the customer asked for it; ``after`` and ``until`` limit when the deliveries
    that follow are due; ``origin`` is as in :func:`telephony.callbacks.origins.origin_of`.
    """

    account_id: str
    origin: str
    since: str
    after: str
    until: str

    @property
    def is_first(self) -> bool:
        return self.after == self.since

    def queue(self, *, at: datetime | None = None) -> None:
        only_one = f"send waiting {self.account_id} {self.origin}"
        defer(TASK, at=at, only_one=only_one, **asdict(self))

    def queue_soon(self, *, after: timedelta = _LOOK_AGAIN) -> None:
        self.queue(at=timezone.now() + min(max(after, _LOOK_AGAIN), _LOOK_SELDOM))


@transaction.atomic
def send_all(account: Account, origin: str) -> bool:
    """Begin to send what waits for a server; return False if nothing waits."""
    last = _pending(account.pk, origin).reverse().values_list("due_at", flat=True).first()
    if last is None:
        return False
    now = timezone.now().isoformat()
    Step(account.pk, origin, since=now, after=now, until=last.isoformat()).queue()
    return True


@transaction.atomic
def send_some(step: Step) -> None:
    """Take a step, and queue the one after it."""
    outbox.lock(step.account_id)
    pending = _pending(step.account_id, step.origin)
    if due := pending.filter(due_at__lte=Now(), held_by=None).first():
        # An account with thousands of slow endpoints can have a chain for each of them.
        step.queue_soon(after=(timezone.now() - due.due_at) / 4)
        return
    since = datetime.fromisoformat(step.since)
    known = CallbackEndpoint.objects.filter(account_id=step.account_id, origin=step.origin)
    endpoint = known.first()
    if endpoint and not step.is_first and endpoint.failing_since < since <= endpoint.failed_at:
        return  # It has accepted nothing.
    silent = endpoint if endpoint and endpoint.failures >= endpoints.FAILS_AFTER else None
    if silent and silent.held.exists():
        known.update(probe_at=Now())
        endpoints.probe_now(silent)
        after = max(step.after, (since + timedelta.resolution).isoformat())
        replace(step, after=after).queue_soon()
        return
    if after := _bring_forward(pending, step, at_most=1 if silent else BATCH):
        replace(step, after=after).queue_soon()


def _bring_forward(pending: CallbackDeliveryQuerySet, step: Step, *, at_most: int) -> str:
    """Make the next ones due now; return when the last of them was due, or "" for none."""
    later = pending.filter(
        due_at__gt=datetime.fromisoformat(step.after),
        due_at__lte=datetime.fromisoformat(step.until),
        held_by=None,
        claimed_until=None,
    )
    some = list(later.values_list("id", "due_at")[:at_most])
    if not some:
        return ""
    ids = [id for id, _ in some]
    waiting = CallbackDelivery.objects.filter(pk__in=ids)
    waiting.update(resume_at=F("due_at"), due_at=Now())
    defer_many(outbox.TASK, [Queued({"delivery_id": id}) for id in ids])
    last: datetime = some[-1][1]
    return last.isoformat()


def _pending(account_id: str, origin: str) -> CallbackDeliveryQuerySet:
    """Return what waits for a server, in the order in which it is due, without the bodies."""
    theirs = CallbackDelivery.objects.filter(account_id=account_id)
    return theirs.waiting_for(shown(origin)).defer("sealed_body")
