"""Hands a call from process to process: from the webhook to the media socket, and between engines.

The plan holds the customer's credentials. It is encrypted with a key of its own, the ticket, which
only the TwiML contains. Neither the database nor a backup of it is enough to read the plan, and it
can be read once.

With each turn, the engine that runs the call stores the conversation, plan included, for the engine
that takes the call up if this one stops. It is encrypted with a key that follows from the call's
first ticket. That key is in the URL that Twilio requests when the media stream has ended, and
neither of the two keys opens what the other does.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import transaction

from core.ids import is_id
from telephony.engine.plan import CallPlan, plan_as_dict, plan_from_dict
from telephony.engine.snapshot import Snapshot
from telephony.engine.spoken import SpokenGreeting
from telephony.models import Call, SealedConversation, SealedPlan

VALID_FOR = timedelta(seconds=60)
# A greeting is played before the stream opens. Nothing tells us how long it is, or that the caller
# has hung up meanwhile. Until then the call keeps counting as a call in progress.
VALID_FOR_WITH_GREETING = timedelta(minutes=3)
#: How long a call may take to move: until it has been decided how it goes on, and again until its
#: stream opens. Twilio asks once the stream is closed, and waits 15 s for a response.
MOVES_WITHIN = timedelta(seconds=20)

_KEY_BYTES = 32
# A ticket's key encrypts one message, so the nonce need not be secret, random or stored.
_NONCE = bytes(12)
_NONCE_BYTES = 12


class InvalidTicket(Exception):
    """The ticket is not ours, was used, has expired, or belongs to another call."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A call's conversation, and when it was like that."""

    snapshot: Snapshot
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Handed:
    """What a ticket opens.

    ``key`` is the one to seal the conversation with, and "" for a call that cannot move. ``moved``
    is the conversation of a call that another engine has begun. ``greeting`` comes from the cache,
    for a call that begins.
    """

    plan: CallPlan
    key: str = field(default="", repr=False)
    moved: Conversation | None = None
    greeting: SpokenGreeting | None = None


def valid_for(plan: CallPlan) -> timedelta:
    """Return how long the ticket of a call with this plan is valid."""
    is_greeted = plan.greeting_url and not plan.is_test
    return VALID_FOR_WITH_GREETING if is_greeted else VALID_FOR


def conversation_key(ticket: str) -> str:
    """Return the key to the conversation of the call that begins with the ticket."""
    key = base64.urlsafe_b64decode(ticket.partition(".")[2])
    return base64.urlsafe_b64encode(hmac.digest(key, b"conversation", "sha256")).decode()


def seal_plan(call: Call, plan: CallPlan, now: datetime) -> str:
    """Store the plan until the media socket asks for it; return the ticket that opens it."""
    # An earlier release made URLs without a key: its calls do not have this, and cannot move.
    kept = plan_as_dict(plan) | {"moves": not plan.is_test}
    return _seal(call, kept, now + valid_for(plan))


def seal_moved(call: Call, key: str, conversation: Conversation, expires_at: datetime) -> str:
    """Store the conversation for the next engine; return the ticket that opens it."""
    return _seal(call, {"key": key, "conversation": _as_dict(conversation)}, expires_at)


def moves_until(call: Call, now: datetime) -> datetime | None:
    """Return until when the call's next ticket is valid; None if it has had its time to move.

    A stream that cannot be opened is tried again, with another ticket, but not for ever.
    """
    until = now + MOVES_WITHIN
    unused = SealedPlan.objects.filter(call=call).values_list("expires_at", flat=True).first()
    if unused is None:
        return until if call.answered_at else None
    return min(unused, until) if unused > now else None


def _seal(call: Call, kept: dict[str, Any], expires_at: datetime) -> str:
    key = secrets.token_bytes(_KEY_BYTES)
    plaintext = orjson.dumps(kept)
    SealedPlan.objects.update_or_create(
        call=call,
        defaults={
            "ciphertext": AESGCM(key).encrypt(_NONCE, plaintext, _bound_to(call)),
            "expires_at": expires_at,
        },
    )
    return f"{call.id}.{base64.urlsafe_b64encode(key).decode()}"


def take_plan(ticket: str, call_sid: str, now: datetime) -> tuple[Call, Handed]:
    """Return the call and what the ticket opens, once; raise :class:`InvalidTicket`.

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
        # First the call, as whatever seals its plan does: else each could wait for the other.
        calls = Call.objects.select_for_update(no_key=True)
        call = calls.filter(pk=call_id, call_sid=call_sid).first()
        plans = SealedPlan.objects.select_for_update().filter(call_id=call_id, expires_at__gt=now)
        if call is None or (sealed := plans.first()) is None:
            raise InvalidTicket("unknown, used or expired")
        try:
            plaintext = cipher.decrypt(_NONCE, bytes(sealed.ciphertext), _bound_to(call))
        except InvalidTag:
            raise InvalidTicket("wrong key") from None
        sealed.delete()
    try:
        return call, _handed(orjson.loads(plaintext), ticket)
    except (AttributeError, KeyError, TypeError, ValueError):  # of an incompatible version
        raise InvalidTicket("unreadable") from None


def _handed(data: Mapping[str, Any], ticket: str) -> Handed:
    if "conversation" in data:
        moved = _from_dict(data["conversation"])
        return Handed(moved.snapshot.plan, data["key"], moved)
    return Handed(plan_from_dict(data), conversation_key(ticket) if data.get("moves") else "")


def forget_expired_plans(now: datetime) -> int:
    """Delete the expired plans; return how many there were."""
    deleted, _ = SealedPlan.objects.filter(expires_at__lte=now).delete()
    return deleted


# The conversation of a call in progress


def sealed_conversation(call: Call, key: str, conversation: Conversation) -> bytes:
    """Return the conversation, sealed for storage."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    # A long conversation has megabytes. The json module would hold up the audio meanwhile.
    plaintext = orjson.dumps(_as_dict(conversation))
    return nonce + _cipher(key).encrypt(nonce, plaintext, _bound_to(call))


def open_conversation(call: Call, key: str) -> Conversation | None:
    """Return the conversation as the call's engine last stored it; None if the key is wrong.

    None also if there is none, or if an incompatible version wrote it.
    """
    kept = SealedConversation.objects.filter(call=call).first()
    if kept is None:
        return None
    sealed = bytes(kept.ciphertext)
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return _from_dict(orjson.loads(_cipher(key).decrypt(nonce, ciphertext, _bound_to(call))))
    except (AttributeError, InvalidTag, KeyError, TypeError, ValueError):
        return None


def _cipher(key: str) -> AESGCM:
    """Return the key's cipher; raise :class:`ValueError` for text that is no key."""
    return AESGCM(base64.urlsafe_b64decode(key))


def _as_dict(conversation: Conversation) -> dict[str, Any]:
    taken_at = conversation.taken_at.isoformat()
    return {"snapshot": conversation.snapshot.to_dict(), "taken_at": taken_at}


def _from_dict(data: Mapping[str, Any]) -> Conversation:
    taken_at = datetime.fromisoformat(data["taken_at"])
    return Conversation(Snapshot.from_dict(data["snapshot"]), taken_at)


def _bound_to(call: Call) -> bytes:
    return f"{call.id} {call.call_sid}".encode()
