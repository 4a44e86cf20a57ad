"""The outbox of onCallEnd and onError: each is stored until it is delivered or given up.

The table is the source of truth. A job is only a hint to look at one delivery: it may run twice,
early or never. A delivery is claimed for the length of an attempt, so that only one attempt at a
time sends it. A job that finds its delivery claimed runs again when the claim expires, since the
worker that claimed it may have died. An account has only a few attempts in progress at a time, so
that a slow backend leaves workers for other accounts. A delivery whose account is at that limit
loses its job; each attempt that ends queues jobs for as many deliveries as there are free slots.
Deliveries to an endpoint that does not respond are held back (``telephony.callbacks.endpoints``).
:func:`resume` finds deliveries that have no job for any other reason.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, ParamSpec, TypeVar

import structlog
from django.db import connection, transaction
from django.db.models import Count, F, Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Account, WebhookSecret
from core.connections import database_within
from core.errors import ApiError
from core.logs import log_scope
from core.observers import tell
from core.outages import is_outage
from core.queue.jobs import Queued, defer, defer_many
from core.sealing import CannotUnseal, seal, unseal
from core.sweeps import each_alone
from core.together import Together
from telephony import incidents
from telephony.call_log import names_of
from telephony.callbacks import attempts, client, endpoints, payloads, schedule, signing
from telephony.callbacks.attempts import Result
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.schedule import asked_delay, retry_delay
from telephony.db import in_database
from telephony.durations import ms_since
from telephony.engine.codes import CallProblem, ErrorCode
from telephony.facts import CallbackSent
from telephony.models import Call, CallbackDelivery, CallbackEndpoint
from telephony.trace_ids import new_span, traceparent

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

TASK = "telephony.tasks.deliver_callback"

TIMEOUT_SECONDS = 15.0
# Longer than an attempt can take, so an expired claim belongs to a worker that died. It has expired
# by the time that others detect the death (``core.queue.worker``), so that they need not wait.
CLAIM = timedelta(seconds=20)
UNDER_WAY_PER_ACCOUNT = 4  # of the 200 jobs that a worker runs at a time
# A job is never this late on a worker that keeps up.
OVERDUE = timedelta(minutes=1)

_DECIDED_AT_ONCE, _DECIDED_WITHIN_S = 100, 10.0
_GIVEN_UP_AT_ONCE = 10_000
_LOCKED_TRIES, _LOCKED_S = 20, 0.01
_WRITTEN_WITHIN_S, _AWAY_S = 15.0, 0.5

GONE = 410
_WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The data that a worker needs to send a delivery without the database.

    ``claimed_at`` is ``time.monotonic()`` before the claim.
    """

    delivery_id: str
    kind: str
    account_id: str
    call_id: str
    call_sid: str
    url: str
    sealed_body: bytes = field(repr=False)
    secret: WebhookSecret
    claimed_until: datetime | None
    claimed_at: float
    span: str = field(default_factory=new_span)  # in the call's trace

    @property
    def is_late(self) -> bool:
        """Return True if the attempt might outlast its claim, since the database was slow."""
        left = self.claimed_at + CLAIM.total_seconds() - time.monotonic()
        return left < TIMEOUT_SECONDS


@transaction.atomic
def enqueue_call_end(call: Call, body: dict[str, Any]) -> None:
    """Queue onCallEnd, once for each call, if the surrounding transaction commits."""
    delivery, is_new = CallbackDelivery.objects.get_or_create(
        call=call,
        kind=CallbackDelivery.Kind.CALL_END,
        is_superseded=False,
        defaults=_fields(call, call.on_call_end_url, body),
    )
    if is_new:
        defer(TASK, delivery_id=delivery.id)


@transaction.atomic
def enqueue_error(call: Call, *, code: str, message: str) -> None:
    """Queue onError, if the call has a URL for it and the surrounding transaction commits."""
    if not call.on_error_url:
        return
    body = payloads.error(CallFacts.of(call), code=code, message=message, now=timezone.now())
    delivery = CallbackDelivery.objects.create(
        call=call,
        kind=CallbackDelivery.Kind.ERROR,
        **_fields(call, call.on_error_url, body),
    )
    defer(TASK, delivery_id=delivery.id)


def withdraw_end(call: Call) -> None:
    """Withdraw the callbacks that say that a call has ended, if they were not yet sent.

    Call this in the transaction that resumes the call, which holds the account's lock. A callback
    that was sent, or is being sent, stays: the next onCallEnd replaces it.
    """
    call.callbacks.filter(kind=CallbackDelivery.Kind.CALL_END).update(is_superseded=True)
    is_free = Q(claimed_until=None) | Q(claimed_until__lte=Now())
    for delivery in call.callbacks.filter(is_free, state=CallbackDelivery.State.PENDING):
        if delivery.is_superseded or _tells_of_loss(delivery):
            _end(delivery, CallbackDelivery.State.GIVEN_UP)
            delivery.last_result = _WITHDRAWN
            delivery.save()


def deliveries_withdraw(*, since: datetime) -> int:
    """Send none of the callbacks that were stored after that time; return how many there were."""
    return CallbackDelivery.objects.filter(
        state=CallbackDelivery.State.PENDING, created_at__gte=since
    ).update(
        state=CallbackDelivery.State.GIVEN_UP,
        last_result=_WITHDRAWN,
        sealed_body=None,
        ended_at=timezone.now(),
    )


def _tells_of_loss(delivery: CallbackDelivery) -> bool:
    try:
        body = json.loads(unseal(delivery.sealed_body or b"", purpose=CallbackDelivery.PURPOSE))
    except (CannotUnseal, ValueError):
        return False
    return bool(body.get("code") == ErrorCode.ENGINE_LOST)


def _fields(call: Call, url: str, body: dict[str, Any]) -> dict[str, Any]:
    sealed = seal(payloads.encode(body), purpose=CallbackDelivery.PURPOSE)
    return {"account_id": call.account_id, "url": url, "sealed_body": sealed}


async def deliver(delivery_id: str) -> None:
    """Make one attempt, if the delivery is due."""
    attempt = await _claimed(delivery_id)
    while attempt and attempt.is_late:
        attempt = await _claimed(delivery_id)
    if attempt:
        with log_scope(call_id=attempt.call_id, call_sid=attempt.call_sid):
            result = await _send(attempt)
            ids = (attempt.call_id, attempt.span)
            tell(CallbackSent(attempt.delivery_id, attempt.kind, result, *ids))
            await _recorded(attempt, result)


async def probe(endpoint_id: int) -> None:
    """Send one of an endpoint's held-back deliveries, as a probe."""
    await _in_time(_queue_probe, endpoint_id)


@transaction.atomic
def resend(delivery: CallbackDelivery) -> CallbackDelivery:
    """Send a delivery now that waits for its next attempt; return its new state.

    A delivery that is due or in progress stays as it is. Raises 409 ``delivery_erased`` if it has
    ended: its content was erased then, so there is nothing to send.
    """
    lock(delivery.account_id)
    delivery = CallbackDelivery.objects.defer("sealed_body").get(pk=delivery.pk)
    if delivery.state != CallbackDelivery.State.PENDING:
        raise ApiError(409, "delivery_erased", _WHY_ERASED[delivery.state])
    waits = Q(due_at__gt=Now()) | Q(held_by__isnull=False)
    waiting = CallbackDelivery.objects.filter(waits, pk=delivery.pk, claimed_until=None)
    if waiting.update(resume_at=F("due_at"), due_at=Now(), held_by=None):
        defer(TASK, delivery_id=delivery.id)
        delivery.refresh_from_db(fields=["due_at", "resume_at", "held_by"])
    return delivery


_WHY_ERASED: dict[str, str] = {
    CallbackDelivery.State.DELIVERED: (
        "This callback was delivered. Its content was erased then, so it cannot be sent again."
    ),
    CallbackDelivery.State.GIVEN_UP: (
        "This callback was given up. Its content was erased then, so it cannot be sent again."
    ),
}


def resume() -> None:
    """Sweep up deliveries that lost their job in a crash, or have been held back for too long.

    Queues one overdue delivery of each account, which will queue the next ones.
    """
    overdue = CallbackDelivery.objects.ready().filter(due_at__lt=Now() - OVERDUE)
    one_each = overdue.order_by("account_id", "due_at").distinct("account_id")
    defer_many(TASK, [_waking(id) for id in one_each.values_list("id", flat=True)])
    endpoints.queue_lost_probes(OVERDUE)
    for_long = CallbackDelivery.objects.filter(
        held_by__isnull=False, created_at__lt=Now() - schedule.AT_LEAST
    )
    ids = list(for_long.order_by("created_at").values_list("id", flat=True)[:_GIVEN_UP_AT_ONCE])
    # One that fails waits for the next sweep; it delays others only if 10,000 precede them.
    each_alone(ids, _give_up, what="giving up of a callback", back_off=lambda _: None)


def _give_up(delivery_id: str) -> bool:
    """Give up a delivery whose schedule has ended, and whose endpoint does not respond."""
    held = CallbackDelivery.objects.filter(pk=delivery_id, held_by__isnull=False)
    account_id = held.values_list("account_id", flat=True).first()
    if account_id is None:
        return False
    lock(account_id)
    delivery = held.defer("sealed_body").first()
    if delivery is None:
        return False
    _end(delivery, CallbackDelivery.State.GIVEN_UP)
    delivery.save()
    _note_given_up(delivery)
    return True


# Decisions. One transaction makes them for many deliveries, under the locks of their accounts.


class Claim(NamedTuple):
    """A request to send a delivery."""

    delivery_id: str


class Record(NamedTuple):
    """The result of an attempt, to be saved."""

    attempt: Attempt
    result: Result


class Busy:
    """The account is locked at the moment."""


async def _claimed(delivery_id: str) -> Attempt | None:
    """Claim a delivery for an attempt; None if it is not ready or its account at the limit."""
    return await _decided(Claim(delivery_id))


async def _recorded(attempt: Attempt, result: Result) -> None:
    """Save how an attempt ended, even if the database is unavailable for a moment.

    If it is unavailable for longer, the delivery is sent again, as after the death of a worker.
    Another worker may have taken over meanwhile: see :func:`_counts`.
    """
    give_up_at = time.monotonic() + _WRITTEN_WITHIN_S
    while True:
        try:
            await _decided(Record(attempt, result))
        except Exception as error:
            if not is_outage(error) or time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(_AWAY_S)
        else:
            return


async def _decided(item: Claim | Record) -> Attempt | None:
    """Decide an item, in a batch with the others that are waiting.

    A locked account does not delay other accounts: its items are tried again.
    """
    for _ in range(_LOCKED_TRIES):
        decision = await _decide_together(item)
        if not isinstance(decision, Busy):
            return decision
        await asyncio.sleep(_LOCKED_S)
    (decision,) = await _in_time(_decide, [item], waits=True)
    return None if isinstance(decision, Busy) else decision


async def _in_time(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Query, with a limit to the wait for the database and for locks."""
    with database_within(_DECIDED_WITHIN_S):
        return await in_database(function, *args, **kwargs)


async def _decide_in_time(items: list[Claim | Record]) -> list[Attempt | Busy | None]:
    return await _in_time(_decide, items)


_decide_together = Together(_decide_in_time, at_most=_DECIDED_AT_ONCE)


@transaction.atomic
def _decide(items: list[Claim | Record], *, waits: bool = False) -> list[Attempt | Busy | None]:
    """Save the attempts that ended and claim deliveries; return a decision for each item."""
    claims = [item.delivery_id for item in items if isinstance(item, Claim)]
    records = [item for item in items if isinstance(item, Record)]
    known = CallbackDelivery.objects.filter(pk__in=claims).values_list("id", "account_id")
    account_of = dict(known)
    accounts = {record.attempt.account_id for record in records} | set(account_of.values())
    locked = _lock_all(accounts, waits=waits)
    _record_all([record for record in records if record.attempt.account_id in locked])
    attempts = _claim_all([id for id in claims if account_of.get(id) in locked])
    decisions: list[Attempt | Busy | None] = []
    for item in items:
        if isinstance(item, Claim):
            account_id = account_of.get(item.delivery_id)
            is_busy = account_id is not None and account_id not in locked
            decision = attempts.pop(item.delivery_id, None)
        else:
            is_busy, decision = item.attempt.account_id not in locked, None
        decisions.append(Busy() if is_busy else decision)
    return decisions


def _claim_all(ids: list[str]) -> dict[str, Attempt]:
    """Claim deliveries, as many as their accounts may have in progress.

    Hold back those whose endpoint does not respond. Look again at those that are claimed when their
    claim expires.
    """
    if not ids:
        return {}
    claimed = CallbackDelivery.objects.under_way().filter(pk__in=ids)
    defer_many(TASK, [_taking_over(*row) for row in claimed.values_list("id", "claimed_until")])
    ready = CallbackDelivery.objects.ready().filter(pk__in=ids).defer("sealed_body")
    candidates = list(ready.order_by("due_at"))
    free = _free_places({delivery.account_id for delivery in candidates})
    failing = endpoints.failing_of(candidates)
    chosen = []
    for delivery in candidates:
        endpoint = failing.get(endpoints.key_of(delivery))
        if endpoint and delivery.resume_at is None and not endpoint.may_be_probed:
            endpoint.held.append(delivery.id)
        elif free[delivery.account_id] > 0:
            free[delivery.account_id] -= 1
            chosen.append(delivery.id)
            if endpoint:
                endpoint.begin_probe(CLAIM)
    endpoints.save_decisions(failing.values())
    reserved = _reserve(chosen)
    # A delivery that is held back needs no slot, so others may use it.
    held_by = {account_id for (account_id, _), endpoint in failing.items() if endpoint.held}
    defer_many(TASK, [_waking(id) for id in _next_of(held_by)])
    return reserved


_RESERVE = """
UPDATE telephony_callbackdelivery SET claimed_until = clock_timestamp() + %(claim)s
WHERE id = ANY(%(ids)s)
RETURNING id, kind, account_id, url, sealed_body, claimed_until, call_id,
    (SELECT call_sid FROM telephony_call WHERE telephony_call.id = call_id)
"""


def _reserve(ids: list[str]) -> dict[str, Attempt]:
    if not ids:
        return {}
    claimed_at = time.monotonic()
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"ids": ids, "claim": CLAIM}
        cursor.execute(_RESERVE, values)
        rows = cursor.fetchall()
    secrets = WebhookSecret.objects.in_bulk({row[2] for row in rows})
    return {
        id: Attempt(
            delivery_id=id,
            kind=kind,
            account_id=account_id,
            call_id=call_id,
            call_sid=call_sid or "",
            url=url,
            sealed_body=bytes(sealed_body or b""),
            secret=secrets[account_id],
            claimed_until=claimed_until,
            claimed_at=claimed_at,
        )
        for id, kind, account_id, url, sealed_body, claimed_until, call_id, call_sid in rows
    }


def _free_places(account_ids: set[str]) -> dict[str, int]:
    """Return how many attempts each account may begin."""
    under_way = CallbackDelivery.objects.under_way().filter(account_id__in=account_ids)
    counts = dict(under_way.values_list("account_id").annotate(Count("id")).order_by())
    return {id: UNDER_WAY_PER_ACCOUNT - counts.get(id, 0) for id in account_ids}


async def _send(attempt: Attempt) -> Result:
    now = timezone.now()
    try:
        body = unseal(attempt.sealed_body, purpose=CallbackDelivery.PURPOSE)
        secrets = attempt.secret.secrets(now)
    except CannotUnseal:
        # SECRET_KEY was changed without a fallback; the schedule leaves a day to restore it.
        log.error("callback_cannot_be_unsealed", delivery_id=attempt.delivery_id)
        return Result("cannot be unsealed", was_sent=False, at=now)
    headers = signing.headers(
        body, secrets=secrets, message_id=f"msg_{attempt.delivery_id}", now=now
    )
    headers["traceparent"] = traceparent(attempt.call_id, attempt.span)
    started = time.monotonic()
    try:
        answer = await client.post(attempt.url, body, headers, timeout=TIMEOUT_SECONDS)
    except client.CallbackFailed as failure:
        return Result(failure.code, at=now, duration_ms=ms_since(started))
    return Result(
        str(answer.status),
        delivered=200 <= answer.status < 300,
        gone=answer.status == GONE,
        retry_after=answer.retry_after,
        at=now,
        duration_ms=ms_since(started),
        answer=await attempts.response_to_keep(answer.body, sent=body, known=secrets),
    )


def _record_all(records: list[Record]) -> None:
    """Save how attempts ended, and queue what follows."""
    if not records:
        return
    ids = [record.attempt.delivery_id for record in records]
    deliveries = CallbackDelivery.objects.defer("sealed_body").in_bulk(ids)
    counted = [
        (deliveries[attempt.delivery_id], result)
        for attempt, result in records
        if attempt.delivery_id in deliveries
        and _counts(deliveries[attempt.delivery_id], attempt, result)
    ]
    attempts.keep_all(counted)
    later = []
    for delivery, result in counted:
        if _note(delivery, result):
            later.append(Queued({"delivery_id": delivery.id}, at=delivery.due_at))
    _write(delivery for delivery, _ in counted)
    endpoints.note_all((delivery, result) for delivery, result in counted if result.was_sent)
    woken = _next_of({record.attempt.account_id for record in records})
    defer_many(TASK, [*later, *map(_waking, woken)])


def _counts(delivery: CallbackDelivery, attempt: Attempt, result: Result) -> bool:
    """Return True if an attempt is the delivery's current one, or has delivered it.

    A worker can be so slow that another one takes over.
    """
    is_current = delivery.claimed_until == attempt.claimed_until
    return delivery.state == CallbackDelivery.State.PENDING and (is_current or result.delivered)


def _note(delivery: CallbackDelivery, result: Result) -> bool:
    """Update a delivery; return True if it will be sent again."""
    delivery.attempts += 1
    delivery.last_result = result.text
    delivery.claimed_until = None
    due_at = None if result.gone or delivery.is_superseded else _next_time(delivery, result)
    if result.delivered:
        _end(delivery, CallbackDelivery.State.DELIVERED)
    elif due_at is None:
        _end(delivery, CallbackDelivery.State.GIVEN_UP)
        _note_given_up(delivery)
    else:
        delivery.due_at = due_at
        return True
    return False


_NOTED = ("attempts", "last_result", "state", "due_at", "resends", "resume_at", "ended_at")
_WRITE = """
UPDATE telephony_callbackdelivery SET
    attempts = %s, last_result = %s, state = %s, due_at = %s, resends = %s, resume_at = %s,
    ended_at = %s, claimed_until = NULL,
    sealed_body = CASE WHEN %s THEN sealed_body END
WHERE id = %s
"""


def _write(deliveries: Iterable[CallbackDelivery]) -> None:
    rows = [
        (
            *(getattr(delivery, name) for name in _NOTED),
            delivery.state == CallbackDelivery.State.PENDING,
            delivery.id,
        )
        for delivery in deliveries
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_WRITE, rows)


def _next_time(delivery: CallbackDelivery, result: Result) -> datetime | None:
    """Return when a failed delivery is due again, or None to give up.

    An attempt that the customer requested does not change the schedule.
    """
    now = timezone.now()
    if delivery.resume_at is None:
        delay = retry_delay(delivery.attempts - delivery.resends, result.retry_after)
        return None if delay is None else now + delay
    delivery.resends += 1
    resume_at, delivery.resume_at = delivery.resume_at, None
    return max(resume_at, now + asked_delay(result.retry_after))


def _end(delivery: CallbackDelivery, state: CallbackDelivery.State) -> None:
    delivery.state = state
    delivery.sealed_body = None
    delivery.resume_at = delivery.held_by = None
    delivery.ended_at = timezone.now()


_NEXT = """
SELECT next.id FROM unnest(%(accounts)s::text[], %(counts)s::int[]) AS account (id, free)
CROSS JOIN LATERAL (
    SELECT id, row_number() OVER (ORDER BY due_at) AS place FROM (
        SELECT id, due_at FROM telephony_callbackdelivery
        WHERE account_id = account.id AND state = 'pending' AND held_by_id IS NULL
            AND due_at <= now() AND (claimed_until IS NULL OR claimed_until <= now())
        ORDER BY due_at LIMIT %(most)s
    ) AS waiting
) AS next WHERE place <= free
"""


def _next_of(account_ids: set[str]) -> list[str]:
    """Return as many due deliveries of each account as it may begin.

    Some of them may already have a job, which does no harm. This way all slots are filled again,
    however many attempts ended together.
    """
    free = {id: count for id, count in _free_places(account_ids).items() if count > 0}
    if not free:
        return []
    counts = list(free.values())
    values: dict[str, Any] = {
        "accounts": list(free),
        "counts": counts,
        "most": UNDER_WAY_PER_ACCOUNT,
    }
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, values)
        return [id for (id,) in cursor.fetchall()]


def _waking(delivery_id: str) -> Queued:
    return Queued({"delivery_id": delivery_id}, only_one=f"wake {delivery_id}")


def _taking_over(delivery_id: str, claimed_until: datetime | None) -> Queued:
    return Queued(
        {"delivery_id": delivery_id}, at=claimed_until, only_one=f"take over {delivery_id}"
    )


@transaction.atomic
def _queue_probe(endpoint_id: int) -> None:
    """Queue a delivery as the probe of its endpoint, if a probe is due.

    The delivery gets a job of its own, like any other, so that others take over if the worker dies.
    """
    endpoint = CallbackEndpoint.objects.filter(pk=endpoint_id, probe_at__lte=Now()).first()
    if endpoint is None:
        return
    lock(endpoint.account_id)
    first = CallbackDelivery.objects.filter(held_by=endpoint).order_by("due_at")[:1]
    for id in first.values_list("id", flat=True):
        CallbackDelivery.objects.filter(pk=id).update(held_by=None)
        defer_many(TASK, [_waking(id)])


def _lock_all(account_ids: set[str], *, waits: bool) -> set[str]:
    """Lock these accounts; unless it ``waits``, skip locked ones. Return those it has locked."""
    free = Account.objects.select_for_update(no_key=True, skip_locked=not waits)
    in_order = free.filter(pk__in=account_ids).order_by("pk")
    return set(in_order.values_list("pk", flat=True))


def lock(account_id: str) -> None:
    """Lock an account, so that one worker at a time decides about its deliveries."""
    _lock_all({account_id}, waits=True)


def _note_given_up(delivery: CallbackDelivery) -> None:
    """Log it, note it on a call that had no other problem, and tell the owner."""
    log.warning(
        "callback_given_up",
        delivery_id=delivery.id,
        account_id=delivery.account_id,
        **names_of(delivery.call),
        kind=delivery.kind,
        attempts=delivery.attempts,
        last_result=delivery.last_result,
    )
    if delivery.is_superseded:
        return
    calls = Call.objects.filter(pk=delivery.call_id, error_code="")
    calls.exclude(ended_at=None).update(error_code=CallProblem.CALLBACK_GIVEN_UP)
    incidents.callback_given_up(delivery)
