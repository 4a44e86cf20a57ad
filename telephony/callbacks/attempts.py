"""The result of each attempt to deliver a callback, so that customers can find faults."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from django.utils import timezone

from core.sealing import CannotUnseal, seal, unseal
from telephony.models import CallbackAttempt, CallbackDelivery

KEPT_FOR = timedelta(days=30)
ANSWER_BYTES = 500
ECHO = "(Not stored: the response repeats what was said in the call.)"
# A response may contain a shorter turn ("Yes, please") by chance.
_TELLING = 12
# Characters of a turn that identify it, wherever it ends.
_KNOWN_BY = 200
# A turn may begin at the end of what is stored. An emoji has twelve bytes in JSON.
_LOOKED_AT = ANSWER_BYTES + 12 * _KNOWN_BY


@dataclass(frozen=True, slots=True)
class Result:
    """The end of an attempt; ``text`` is a status or the code of a failure, never what was said."""

    text: str
    delivered: bool = False
    gone: bool = False
    was_sent: bool = True
    retry_after: float | None = None
    at: datetime = field(default_factory=timezone.now)
    duration_ms: int = 0
    answer: str = field(default="", repr=False)


def answer_to_keep(answer: bytes, sent: bytes) -> str:
    """Return the beginning of a backend's response as text.

    The transcript and tool calls are erased on delivery, so a response that repeats them is not
    stored.
    """
    if _repeats(answer, sent):
        return ECHO
    # Drop the bytes of a character that was cut.
    text = answer[:ANSWER_BYTES].decode(errors="replace")
    return text.rstrip("�") if len(answer) > ANSWER_BYTES else text


def _repeats(answer: bytes, sent: bytes) -> bool:
    body = orjson.loads(sent)
    turns = {turn["text"][:_KNOWN_BY] for turn in body.get("transcript", []) if turn["text"]}
    results = {call["result"][:_KNOWN_BY] for call in body.get("toolCalls", [])}
    telling = {text for text in turns | results if len(text) >= _TELLING}
    text = answer[:_LOOKED_AT].decode(errors="replace")
    if telling:
        return any(_is_in(turn, text) for turn in telling)
    return bool(turns) and all(_is_in(turn, text) for turn in turns)


def _is_in(turn: str, text: str) -> bool:
    """Return True if a text contains a turn, as it is or as JSON."""
    in_json = (json.dumps(turn, ensure_ascii=flag)[1:-1] for flag in (True, False))
    return turn in text or any(form in text for form in in_json)


def keep_all(ended: Iterable[tuple[CallbackDelivery, Result]]) -> None:
    CallbackAttempt.objects.bulk_create(
        CallbackAttempt(
            delivery=delivery,
            at=result.at,
            duration_ms=result.duration_ms,
            result=result.text,
            sealed_answer=(
                seal(result.answer.encode(), purpose=CallbackAttempt.PURPOSE)
                if result.answer
                else None
            ),
        )
        for delivery, result in ended
    )


def answer_of(attempt: CallbackAttempt) -> str:
    """Return the beginning of the response; ``""`` if there was none, or it had no body."""
    if attempt.sealed_answer is None:
        return ""
    try:
        return unseal(attempt.sealed_answer, purpose=CallbackAttempt.PURPOSE).decode()
    except CannotUnseal:  # its key was removed
        return "(No longer readable.)"


def delete_expired(*, at_most: int) -> int:
    """Delete expired attempts; return their number."""
    old = CallbackAttempt.objects.filter(at__lt=timezone.now() - KEPT_FOR)
    ids = list(old.order_by("at").values_list("pk", flat=True)[:at_most])
    return CallbackAttempt.objects.filter(pk__in=ids).delete()[0]
