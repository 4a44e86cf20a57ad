"""How customers' backends responded to callbacks, so that customers can find faults.

Each attempt to deliver onCallEnd or onError is kept, and each failed onCallStart and onToolCall.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.utils import timezone

from core.sealing import CannotUnseal, seal, unseal
from telephony.bounded_json import beside_the_loop
from telephony.callback_urls import without_query
from telephony.callbacks.masking import masked, texts_in
from telephony.models import CallbackAttempt, CallbackDelivery, FailedRequest, SealedAnswer

KEPT_FOR = timedelta(days=30)
ANSWER_BYTES = 500
ECHO = "(Not stored: the response repeats what was said in the call.)"
# A response may contain a shorter turn ("Yes, please") by chance.
_TELLING = 12
# Characters of a turn that identify it, wherever it ends.
_KNOWN_BY = 200
# A turn may begin at the end of what is stored. An emoji has twelve bytes in JSON.
_LOOKED_AT = ANSWER_BYTES + 12 * _KNOWN_BY
# Masking a response takes so many times as long as decoding it.
_MASKING_COSTS = 16


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

    @property
    def status(self) -> int | None:
        """Return the HTTP status, if there was a response."""
        return int(self.text) if self.text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Failure:
    """An onCallStart or onToolCall that failed. ``tool`` is the name of the tool, if any."""

    kind: str
    url: str
    result: Result
    tool: str = ""


async def response_to_keep(answer: bytes, *, sent: bytes = b"{}", known: Sequence[str] = ()) -> str:
    """Do what :func:`answer_to_keep` does, in a thread if it takes long."""
    cost = _MASKING_COSTS * len(answer)
    return await beside_the_loop(cost, answer_to_keep, answer, sent, known=known)


def answer_to_keep(answer: bytes, sent: bytes, *, known: Sequence[str] = ()) -> str:
    """Return the beginning of a backend's response as text, without credentials.

    What was said in the call is erased when it has been delivered, so a response that repeats it is
    not stored.

    :param sent: the body of the callback.
    :param known: credentials that the response must not contain.
    """
    if _repeats(answer, sent):
        return ECHO
    text = masked(answer, known=known).encode(errors="replace")
    # Drop the bytes of a character that was cut.
    return text[:ANSWER_BYTES].decode(errors="ignore")


def _repeats(answer: bytes, sent: bytes) -> bool:
    body = orjson.loads(sent)
    turns = {turn["text"][:_KNOWN_BY] for turn in body.get("transcript", []) if turn["text"]}
    turns |= {text[:_KNOWN_BY] for text in texts_in(body.get("arguments")) if text}
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
        CallbackAttempt(delivery=delivery, **_kept(result)) for delivery, result in ended
    )


def keep_failed(call_id: str, account_id: str, requests: Iterable[Failure]) -> None:
    FailedRequest.objects.bulk_create(
        FailedRequest(
            call_id=call_id,
            account_id=account_id,
            kind=request.kind,
            tool=request.tool,
            url=without_query(request.url),
            **_kept(request.result),
        )
        for request in requests
    )


def _kept(result: Result) -> dict[str, Any]:
    answer = result.answer.encode()
    return {
        "at": result.at,
        "duration_ms": result.duration_ms,
        "result": result.text,
        "sealed_answer": seal(answer, purpose=SealedAnswer.PURPOSE) if answer else None,
    }


def answer_of(kept: SealedAnswer) -> str:
    """Return the beginning of the response; ``""`` if there was none, or it had no body."""
    if kept.sealed_answer is None:
        return ""
    try:
        return unseal(kept.sealed_answer, purpose=SealedAnswer.PURPOSE).decode()
    except CannotUnseal:  # its key was removed
        return "(No longer readable.)"


def delete_expired(*, at_most: int) -> int:
    """Delete at most so many expired rows of each table; return how many of the larger number."""
    return max(_delete_expired(model, at_most) for model in (CallbackAttempt, FailedRequest))


def _delete_expired(model: type[SealedAnswer], at_most: int) -> int:
    old = model._default_manager.filter(at__lt=timezone.now() - KEPT_FOR)
    ids = list(old.order_by("at").values_list("pk", flat=True)[:at_most])
    return model._default_manager.filter(pk__in=ids).delete()[0]
