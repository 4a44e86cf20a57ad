"""``Idempotency-Key``: a request that may be sent again, and is carried out once.

A key holds for one account and one body, for 24 hours. Its row is written together with the call
that the request places, in one transaction and under the account's lock: there is no row without a
call, and never a second call for a row.

What is refused before that (a wrong body, 402, 403, 429) leaves no row: the request can be mended,
or wait, and come again under its key. What is answered from there on is kept and repeated, Twilio's
refusal and a 502 as well; Stripe does the same.

A process can die between the row and its answer. For :data:`LEASE` the request is taken to be
running; from then on it is answered by what has become of its call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.views.decorators.debug import sensitive_variables
from rest_framework.response import Response

from accounts.authentication import AccountRequest
from accounts.models import Account
from core.errors import ApiError, invalid
from core.sealing import keyed_hashes
from telephony.models import Call, IdempotencyKey

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
# Three times as long as Twilio is waited for.
LEASE = timedelta(seconds=30)

_VISIBLE_ASCII = re.compile(r"[!-~]{1,255}")


class Answer(NamedTuple):
    """What a request is answered once its call was written down."""

    call: Call
    status: int
    body: dict[str, Any]


class AlreadyUsed(Exception):
    """The key has a row already."""

    def __init__(self, record: IdempotencyKey, age: timedelta) -> None:
        super().__init__(record.key)
        self.record = record
        self.age = age


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A key of an account, and the body that it came with as hashes (``keyed_hashes``)."""

    account: Account
    key: str
    fingerprints: list[str]

    def require_unused(self) -> None:
        """Raise :class:`AlreadyUsed` if there is a row that counts; under the account's lock."""
        age = ExpressionWrapper(Now() - F("created_at"), DurationField())
        records = IdempotencyKey.objects.of(self.account).filter(key=self.key).annotate(age=age)
        if record := records.filter(age__lt=KEPT).first():
            raise AlreadyUsed(record, record.age)

    def use_for(self, call: Call) -> None:
        """Write the row, in the transaction that writes the call."""
        IdempotencyKey.objects.update_or_create(  # one that is no longer valid can be in the way
            account=self.account,
            key=self.key,
            defaults={
                "call": call,
                "fingerprint": self.fingerprints[0],
                "created_at": Now(),
                "status": None,
                "body": "",
            },
        )


@sensitive_variables("body")
def request_key(request: AccountRequest) -> RequestKey | None:
    """Return the key that a request came with, if any; raise 400 for one that is malformed."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _VISIBLE_ASCII.fullmatch(key):
        raise invalid({HEADER: ["Send 1 to 255 visible ASCII characters."]})
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
    return RequestKey(
        request.user, key, keyed_hashes(body.encode(), purpose="idempotency of a request")
    )


def answer_once(
    key: RequestKey, act: Callable[[], Answer], recover: Callable[[Call], Answer]
) -> Response:
    """Act, and keep the answer; or give the answer that is kept.

    ``act`` calls :meth:`RequestKey.require_unused` and :meth:`RequestKey.use_for`; what it raises
    is not kept. ``recover`` says what has become of a call whose request was never answered. Raises
    409 ``idempotency_key_reused`` and ``idempotency_key_in_use``.
    """
    try:
        return _kept(act())
    except AlreadyUsed as used:
        response = _earlier(key, used, recover)
    response["Idempotent-Replayed"] = "true"
    return response


def _earlier(key: RequestKey, used: AlreadyUsed, recover: Callable[[Call], Answer]) -> Response:
    record = used.record
    if record.fingerprint not in key.fingerprints:
        raise ApiError(
            409,
            "idempotency_key_reused",
            f"This {HEADER} came with another body before: use a new one for a new request.",
        )
    if record.status is not None:
        return _response(record)
    if used.age < LEASE:
        raise ApiError(
            409,
            "idempotency_key_in_use",
            f"The first request with this {HEADER} is still running: try again in a second.",
            headers={"Retry-After": "1"},
        )
    return _kept(recover(record.call))


def _kept(answer: Answer) -> Response:
    """Keep an answer unless there is one, and give the one that is kept: all get the same."""
    records = IdempotencyKey.objects.filter(call=answer.call)
    records.filter(status=None).update(status=answer.status, body=json.dumps(answer.body))
    return _response(records.get())


def _response(record: IdempotencyKey) -> Response:
    return Response(json.loads(record.body), record.status)


def forget_expired(*, at_most: int) -> int:
    """Delete keys that hold no longer; return how many."""
    expired = IdempotencyKey.objects.filter(created_at__lte=Now() - KEPT)
    some = expired.order_by("created_at").values("pk")[:at_most]
    return expired.filter(pk__in=some).delete()[0]
