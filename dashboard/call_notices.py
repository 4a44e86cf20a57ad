"""What a call's page says first: what went wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dashboard.call_words import result_words
from telephony.call_problems import Problem, detail_of, explained, problem_of
from telephony.engine.codes import CallProblem, EndedReason, EventKind
from telephony.models import Call, CallbackDelivery, CallEvent

Tone = Literal["bad", "note", "neutral"]

_HEARD = {"busy": "The caller heard a busy signal.", "rejected": "The call was not answered."}


@dataclass(frozen=True, slots=True)
class Notice:
    tone: Tone
    problem: Problem


def notices_of(
    call: Call, events: Sequence[CallEvent], deliveries: Iterable[CallbackDelivery]
) -> list[Notice]:
    """Return the notices of a call that has ended, the most important first."""
    if not call.ended_reason:
        return []
    given_up = [
        each
        for each in deliveries
        if each.state == CallbackDelivery.State.GIVEN_UP and not each.is_superseded
    ]
    lost = explained(CallProblem.CALLBACK_GIVEN_UP, _given_up(given_up))
    if call.error_code == lost.code:
        return [Notice(_tone(call), lost)]
    notices = (
        [Notice(_tone(call), problem_of(call.error_code, events))]
        if call.error_code
        else _of_reason(call, events)
    )
    return [*notices, Notice("note", lost)] if given_up else notices


def _tone(call: Call) -> Tone:
    return "bad" if call.outcome == "failed" else "note"


def _of_reason(call: Call, events: Sequence[CallEvent]) -> list[Notice]:
    """Return what there is to say about a call without an error code."""
    reason = call.ended_reason
    if reason == EndedReason.REJECTED:
        declined = detail_of(EventKind.DECLINED, events).get("reason", "")
        what = "Your backend rejected this call: onCallStart responded with `reject`."
        remedy = "If you did not intend that, look for the reason in your backend."
        problem = Problem(reason, what, _HEARD.get(str(declined), ""), remedy)
        return [Notice("neutral", problem)]
    return [Notice("bad", explained(reason))] if call.outcome == "failed" else []


def _given_up(deliveries: Sequence[CallbackDelivery]) -> str:
    return " ".join(
        f"The last attempt to send {each.kind} ended with {result_words(each.last_result)}."
        for each in deliveries
    )
