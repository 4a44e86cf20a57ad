"""``Idempotency-Key``: a request that can be retried safely, since it takes effect once.

A key is valid for one account and one body, for 24 hours. Its row is written together with the call
that the request places, in one transaction and under the account's lock. There is no row without a
call, and never a second call for a row.

A request that is refused before that (a wrong body, 402, 403, 429) leaves no row: it can be
corrected, or wait, and be sent again under its key. Every later response is stored and replayed,
including Twilio's refusal and a 502. Stripe does the same.

A process can die between the row and the response. For :data:`LEASE` the request counts as running.
After that, the response follows from the state of its call.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.views.decorators.debug import sensitive_variables

from accounts.authentication import AccountRequest
from accounts.models import Account
from core.errors import ApiError, invalid
from core.sealing import keyed_hashes
from telephony.models import Call, IdempotencyKey

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
KEPT = timedelta(hours=24)
# Three times the timeout for Twilio.
LEASE = timedelta(seconds=30)

_VISIBLE_ASCII = re.compile(r"[!-~]{1,255}")


class Answer(NamedTuple):
    """The response to a request: the HTTP status, and the body as JSON types."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A key of an account, and the body that it came with as hashes (``keyed_hashes``)."""

    account: Account
    key: str
    fingerprints: list[str]

    def earlier(self) -> IdempotencyKey | None:
        """Return the row of an earlier request, if there is one. Call it under the account's lock.

        A row without a status belongs to a request whose process died before it responded. Raises
        409 ``idempotency_key_reused`` and ``idempotency_key_in_use``.
        """
        age = ExpressionWrapper(Now() - F("created_at"), DurationField())
        records = IdempotencyKey.objects.of(self.account).filter(key=self.key).annotate(age=age)
        record = records.filter(age__lt=KEPT).select_related("call").first()
        if record is None:
            return None
        if record.fingerprint not in self.fingerprints:
            raise ApiError(
                409,
                "idempotency_key_reused",
                f"This {HEADER} was used with a different body. Use a new one for a new request.",
            )
        if record.status is None and record.age < LEASE:
            raise ApiError(
                409,
                "idempotency_key_in_use",
                f"The first request with this {HEADER} is still running. Try again in a second.",
                headers={"Retry-After": "1"},
            )
        return record

    def use_for(self, call: Call) -> None:
        """Write the row, in the transaction that writes the call."""
        IdempotencyKey.objects.update_or_create(  # an expired row can be in the way
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
    """Return the request's key, if it has one; raise 400 if it is malformed."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _VISIBLE_ASCII.fullmatch(key):
        raise invalid({HEADER: ["Send 1 to 255 visible ASCII characters."]})
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
    return RequestKey(
        request.user, key, keyed_hashes(body.encode(), purpose="idempotency of a request")
    )


def keep_answer(call: Call, answer: Answer) -> Answer:
    """Store the response unless there is one; return the stored one, so that all are the same."""
    records = IdempotencyKey.objects.filter(call=call)
    records.filter(status=None).update(status=answer.status, body=json.dumps(answer.body))
    return kept_answer(records.get()) or answer


def kept_answer(record: IdempotencyKey) -> Answer | None:
    return None if record.status is None else Answer(record.status, json.loads(record.body))


def forget_expired(*, at_most: int) -> int:
    """Delete expired keys; return how many."""
    expired = IdempotencyKey.objects.filter(created_at__lte=Now() - KEPT)
    some = expired.order_by("created_at").values("pk")[:at_most]
    return expired.filter(pk__in=some).delete()[0]
