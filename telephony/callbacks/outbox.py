"""onCallEnd and onError: kept until a customer's backend has taken them, or will not.

The table is the truth, and a job is no more than a hint to look at one delivery: it may come twice,
early or never. A delivery is claimed for the length of an attempt, so that it is sent once at a
time, and an account has a few attempts under way at most, so that a slow backend leaves the workers
to the others. A delivery that finds its account at that limit has no job of its own any more; each
attempt that ends wakes the next one up. :func:`resume` finds what a crash left asleep.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Account, WebhookSecret
from config.errors import ApiError
from config.jobs import defer
from config.sealing import CannotUnseal, seal, unseal
from telephony.callbacks import attempts, client, payloads, signing
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.schedule import asked_delay, retry_delay
from telephony.db import in_database
from telephony.durations import ms_since
from telephony.models import ENGINE_LOST, Call, CallbackDelivery

log = structlog.get_logger(__name__)

TASK = "telephony.tasks.deliver_callback"

TIMEOUT_SECONDS = 15.0
# Longer than an attempt can take: a claim that is past belongs to a worker that died.
CLAIM = timedelta(seconds=30)
UNDER_WAY_PER_ACCOUNT = 4  # of the fifty jobs that a worker runs at a time
# Later than a job can be on a worker that keeps up.
OVERDUE = timedelta(minutes=1)

GONE = 410


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a worker needs to send a delivery without the database."""

    delivery_id: str
    account_id: str
    url: str
    sealed_body: bytes = field(repr=False)
    secret: WebhookSecret
    claimed_until: datetime | None


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended; ``text`` is a status or the code of a failure, never what was said."""

    text: str
    delivered: bool = False
    gone: bool = False
    retry_after: float | None = None
    at: datetime = field(default_factory=timezone.now)
    duration_ms: int = 0
    answer: str = field(default="", repr=False)


@transaction.atomic
def enqueue_call_end(call: Call, body: dict[str, Any]) -> None:
    """Send onCallEnd, once for each call, if the caller's transaction commits."""
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
    """Send onError, if the call has a URL for it and the caller's transaction commits."""
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
    """Take back that a call has ended, as far as its backend was not told yet.

    In the transaction that goes on with the call, which holds its account's lock. What was told, or
    is being told at this moment, stays: the next onCallEnd replaces it.
    """
    call.callbacks.filter(kind=CallbackDelivery.Kind.CALL_END).update(is_superseded=True)
    is_free = Q(claimed_until=None) | Q(claimed_until__lte=Now())
    for delivery in call.callbacks.filter(is_free, state=CallbackDelivery.State.PENDING):
        if delivery.is_superseded or _tells_of_loss(delivery):
            _end(delivery, CallbackDelivery.State.GIVEN_UP)
            delivery.last_result = "withdrawn"
            delivery.save()


def _tells_of_loss(delivery: CallbackDelivery) -> bool:
    try:
        body = json.loads(unseal(delivery.sealed_body or b"", purpose=CallbackDelivery.PURPOSE))
    except (CannotUnseal, ValueError):
        return False
    return bool(body.get("code") == ENGINE_LOST)


def _fields(call: Call, url: str, body: dict[str, Any]) -> dict[str, Any]:
    sealed = seal(payloads.encode(body), purpose=CallbackDelivery.PURPOSE)
    return {"account_id": call.account_id, "url": url, "sealed_body": sealed}


async def deliver(delivery_id: str) -> None:
    """Make one attempt, if it is time for one."""
    if attempt := await in_database(_claim, delivery_id):
        result = await _send(attempt)
        await in_database(_record, attempt, result)


@transaction.atomic
def resend(delivery: CallbackDelivery) -> CallbackDelivery:
    """Send a delivery that waits for its next attempt now; return it as it is then.

    One that is due, or on its way at this moment, is left to that. Raises 409 ``delivery_erased``
    when it has ended: what it said was erased with that, so there is nothing to send.
    """
    _lock(delivery.account_id)
    delivery = CallbackDelivery.objects.defer("sealed_body").get(pk=delivery.pk)
    if delivery.state != CallbackDelivery.State.PENDING:
        raise ApiError(409, "delivery_erased", _WHY_ERASED[delivery.state])
    waits = CallbackDelivery.objects.filter(pk=delivery.pk, claimed_until=None, due_at__gt=Now())
    if waits.update(resume_at=F("due_at"), due_at=Now()):
        defer(TASK, delivery_id=delivery.id)
        delivery.refresh_from_db(fields=["due_at", "resume_at"])
    return delivery


_WHY_ERASED: dict[str, str] = {
    CallbackDelivery.State.DELIVERED: (
        "This callback was delivered, and what it said was erased then: it cannot be sent again."
    ),
    CallbackDelivery.State.GIVEN_UP: (
        "This callback was given up, and what it said was erased then: it cannot be sent again."
    ),
}


def resume() -> None:
    """Wake up one delivery of each account that has overdue ones; it will wake up the next."""
    overdue = CallbackDelivery.objects.ready().filter(due_at__lt=Now() - OVERDUE)
    one_each = overdue.order_by("account_id", "due_at").distinct("account_id")
    for delivery_id in one_each.values_list("id", flat=True):
        defer(TASK, delivery_id=delivery_id)


@transaction.atomic
def _claim(delivery_id: str) -> Attempt | None:
    """Reserve a delivery for an attempt; None if it is not ready or its account at the limit."""
    ready = CallbackDelivery.objects.ready().filter(pk=delivery_id)
    account_id = ready.values_list("account_id", flat=True).first()
    if account_id is None:
        return None
    _lock(account_id)
    under_way = CallbackDelivery.objects.under_way().filter(account_id=account_id)
    if under_way.count() >= UNDER_WAY_PER_ACCOUNT or not ready.update(claimed_until=Now() + CLAIM):
        return None
    delivery = CallbackDelivery.objects.get(pk=delivery_id)
    return Attempt(
        delivery_id=delivery_id,
        account_id=account_id,
        url=delivery.url,
        sealed_body=bytes(delivery.sealed_body or b""),
        secret=WebhookSecret.objects.get(account_id=account_id),
        claimed_until=delivery.claimed_until,
    )


async def _send(attempt: Attempt) -> Result:
    now = timezone.now()
    try:
        body = unseal(attempt.sealed_body, purpose=CallbackDelivery.PURPOSE)
        secrets = attempt.secret.secrets(now)
    except CannotUnseal:
        # SECRET_KEY was changed without a fallback; the schedule leaves a day to put it back.
        log.error("callback_cannot_be_unsealed", delivery_id=attempt.delivery_id)
        return Result("cannot be unsealed", at=now)
    headers = signing.headers(
        body, secrets=secrets, message_id=f"msg_{attempt.delivery_id}", now=now
    )
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
        answer=attempts.answer_to_keep(answer.body, body),
    )


@transaction.atomic
def _record(attempt: Attempt, result: Result) -> None:
    """Write down how an attempt ended, and see to what comes next."""
    _lock(attempt.account_id)
    delivery = CallbackDelivery.objects.filter(pk=attempt.delivery_id).first()
    if delivery is None or delivery.state != CallbackDelivery.State.PENDING:
        return
    if delivery.claimed_until != attempt.claimed_until and not result.delivered:
        return  # this worker was so slow that another one took over
    attempts.keep(
        delivery,
        at=result.at,
        duration_ms=result.duration_ms,
        result=result.text,
        answer=result.answer,
    )
    delivery.attempts += 1
    delivery.last_result = result.text
    delivery.claimed_until = None
    due_at = None if result.gone or delivery.is_superseded else _next_time(delivery, result)
    if result.delivered:
        _end(delivery, CallbackDelivery.State.DELIVERED)
    elif due_at is None:
        _end(delivery, CallbackDelivery.State.GIVEN_UP)
        _log_given_up(delivery)
    else:
        delivery.due_at = due_at
        defer(TASK, at=delivery.due_at, delivery_id=delivery.id)
    delivery.save()
    _wake_next(attempt.account_id)


def _next_time(delivery: CallbackDelivery, result: Result) -> datetime | None:
    """Return when a delivery that failed is due again, or None to give up.

    An attempt that the customer asked for leaves the schedule as it was.
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
    delivery.resume_at = None
    delivery.ended_at = timezone.now()


def _wake_next(account_id: str) -> None:
    waiting = CallbackDelivery.objects.ready().filter(account_id=account_id).order_by("due_at")
    if delivery_id := waiting.values_list("id", flat=True).first():
        defer(TASK, delivery_id=delivery_id)


def _lock(account_id: str) -> None:
    """Let one worker at a time decide what an account has under way, and what comes next."""
    Account.objects.select_for_update(no_key=True).only("pk").get(pk=account_id)


def _log_given_up(delivery: CallbackDelivery) -> None:
    log.warning(
        "callback_given_up",
        delivery_id=delivery.id,
        account_id=delivery.account_id,
        call_id=delivery.call_id,
        kind=delivery.kind,
        attempts=delivery.attempts,
        last_result=delivery.last_result,
    )
