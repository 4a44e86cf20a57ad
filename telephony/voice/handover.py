"""Hands a call's plan from the webhook to the media socket, which may be another process.

The plan holds the customer's credentials. It is encrypted with a key of its own, which only the
TwiML contains. Neither the database nor a backup of it is enough to read the plan, and it can be
read once.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import transaction

from core.ids import is_id
from telephony.engine.plan import CallPlan, plan_as_dict, plan_from_dict
from telephony.models import Call, SealedPlan

VALID_FOR = timedelta(seconds=60)
# A greeting is played before the stream opens. Nothing tells us how long it is, or that the caller
# has hung up meanwhile. Until then the call keeps counting as a call in progress.
VALID_FOR_WITH_GREETING = timedelta(minutes=3)

_KEY_BYTES = 32
# Each key encrypts one message, so the nonce need not be secret, random or stored.
_NONCE = bytes(12)


class InvalidTicket(Exception):
    """The ticket is not ours, was used, has expired, or belongs to another call."""


def valid_for(plan: CallPlan) -> timedelta:
    """Return how long the ticket of a call with this plan is valid."""
    is_greeted = plan.greeting_url and not plan.is_test
    return VALID_FOR_WITH_GREETING if is_greeted else VALID_FOR


def seal_plan(call: Call, plan: CallPlan, now: datetime) -> str:
    """Store the plan until the media socket asks for it; return the ticket that opens it."""
    key = secrets.token_bytes(_KEY_BYTES)
    plaintext = json.dumps(plan_as_dict(plan)).encode()
    SealedPlan.objects.update_or_create(
        call=call,
        defaults={
            "ciphertext": AESGCM(key).encrypt(_NONCE, plaintext, _bound_to(call)),
            "expires_at": now + valid_for(plan),
        },
    )
    return f"{call.id}.{base64.urlsafe_b64encode(key).decode()}"


def take_plan(ticket: str, call_sid: str, now: datetime) -> tuple[Call, CallPlan]:
    """Return the call and its plan, once; raise :class:`InvalidTicket`.

    A wrong key leaves the plan in place: knowing a call's id is not enough to break the call.
    """
    call_id, _, encoded_key = ticket.partition(".")
    if not is_id(call_id):
        raise InvalidTicket("malformed")
    try:
        key = base64.urlsafe_b64decode(encoded_key)
        cipher = AESGCM(key)
    except (binascii.Error, ValueError):
        raise InvalidTicket("malformed") from None
    with transaction.atomic():
        sealed = (
            SealedPlan.objects.select_for_update(of=("self",))
            .select_related("call")
            .filter(call_id=call_id, expires_at__gt=now)
            .first()
        )
        if sealed is None or sealed.call.call_sid != call_sid:
            raise InvalidTicket("unknown, used or expired")
        call = sealed.call
        try:
            plaintext = cipher.decrypt(_NONCE, bytes(sealed.ciphertext), _bound_to(call))
        except InvalidTag:
            raise InvalidTicket("wrong key") from None
        sealed.delete()
    try:
        return call, plan_from_dict(json.loads(plaintext))
    except (AttributeError, TypeError, ValueError):  # written by an incompatible version
        raise InvalidTicket("unreadable") from None


def forget_expired_plans(now: datetime) -> int:
    """Delete the expired plans; return how many there were."""
    deleted, _ = SealedPlan.objects.filter(expires_at__lte=now).delete()
    return deleted


def _bound_to(call: Call) -> bytes:
    return f"{call.id} {call.call_sid}".encode()
