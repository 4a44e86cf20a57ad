"""What a call's page says first: what went wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dashboard.call_words import result_words
from telephony.engine.bounds import clipped, sentence
from telephony.engine.codes import (
    MODEL_PREFIX,
    CallProblem,
    EndedReason,
    ErrorCode,
    EventKind,
    model_error_code,
)
from telephony.explanations import guide_section_url, section_of
from telephony.models import Call, CallbackDelivery, CallEvent

Tone = Literal["bad", "note", "neutral"]

# A code's message in the timeline is OpenAI's, which says little without the meaning.
_IN_OPENAIS_WORDS = frozenset({ErrorCode.MODEL_REJECTED_CONFIGURATION.value})
# Its message is ours, and adds nothing: OpenAI's has a part of the key.
_WRONG_KEY = model_error_code("invalid_api_key")
# Characters of a message. The timeline has all of it.
_LONGEST = 300
_HEARD = {"busy": "The caller heard a busy signal.", "rejected": "The call was not answered."}


@dataclass(frozen=True, slots=True)
class Notice:
    """``what`` and ``remedy`` are sentences in Markdown, ``specifics`` are plain text."""

    tone: Tone
    what: str
    specifics: str
    remedy: str
    code: str

    @property
    def href(self) -> str:
        return guide_section_url(self.code)


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
    notices = [_of_code(call, events, given_up)] if call.error_code else _of_reason(call, events)
    if given_up and call.error_code != CallProblem.CALLBACK_GIVEN_UP:
        notices.append(_explained("note", CallProblem.CALLBACK_GIVEN_UP, _given_up(given_up)))
    return notices


def _of_code(
    call: Call, events: Sequence[CallEvent], given_up: Sequence[CallbackDelivery]
) -> Notice:
    tone: Tone = "bad" if call.outcome == "failed" else "note"
    code, message = call.error_code, _message(call.error_code, events)
    if not message:
        return _explained(tone, code, _specifics(code, events, given_up))
    message = clipped(message, _LONGEST)
    if code == _WRONG_KEY:
        return _explained(tone, code)
    if _is_openais(code):
        return _explained(tone, code, f"OpenAI says: “{message}”")
    notice = _explained(tone, code)
    return Notice(tone, "", message, notice.remedy, code)


def _explained(tone: Tone, code: str, specifics: str = "") -> Notice:
    known = section_of(code)
    if known is None:
        return Notice(tone, f"The call failed with `{code}`.", specifics, "", code)
    return Notice(tone, known.meaning, specifics, known.remedy, code)


def _is_openais(code: str) -> bool:
    is_ours = code in list(ErrorCode) and code not in _IN_OPENAIS_WORDS
    return code.startswith(MODEL_PREFIX) and not is_ours


def _of_reason(call: Call, events: Sequence[CallEvent]) -> list[Notice]:
    """Return what there is to say about a call without an error code."""
    if call.ended_reason == EndedReason.REJECTED:
        reason = _detail(EventKind.DECLINED, events).get("reason", "")
        what = "Your backend rejected this call: onCallStart responded with `reject`."
        remedy = "If you did not intend that, look for the reason in your backend."
        heard = _HEARD.get(str(reason), "")
        return [Notice("neutral", what, heard, remedy, EndedReason.REJECTED)]
    if call.outcome != "failed":
        return []
    section = section_of(call.ended_reason)
    what, remedy = (section.meaning, section.remedy) if section else ("The call failed.", "")
    return [Notice("bad", what, "", remedy, call.ended_reason)]


def _specifics(code: str, events: Sequence[CallEvent], given_up: Sequence[CallbackDelivery]) -> str:
    """Return what the timeline knows about a problem that has no message of onError."""
    match code:
        case CallProblem.CARRIER_REJECTED:
            found = _detail(EventKind.CARRIER_REJECTED, events)
            said = f"Twilio says: “{found.get('message', '')}” (error {found.get('code', '')})"
            return said if found else ""
        case CallProblem.CARRIER_UNAVAILABLE:
            return _sentence(_detail(EventKind.CARRIER_UNAVAILABLE, events).get("reason"))
        case CallProblem.TOOL_FAILED:
            return _sentence(_detail(EventKind.TOOL_FAILED, events).get("message"))
        case CallProblem.TOOL_TIMEOUT:
            found = _detail(EventKind.TOOL_TIMEOUT, events)
            return f"The tool is {found['tool']}." if "tool" in found else ""
        case CallProblem.CALLBACK_GIVEN_UP:
            return _given_up(given_up)
    return ""


def _given_up(deliveries: Sequence[CallbackDelivery]) -> str:
    return " ".join(
        f"The last attempt to send {each.kind} ended with {result_words(each.last_result)}."
        for each in deliveries
    )


def _message(code: str, events: Sequence[CallEvent]) -> str:
    """Return the message of onError with this code, whether or not the number has a URL for it."""
    errors = (each.detail for each in reversed(events) if each.kind == EventKind.ERROR)
    return next((str(each.get("message", "")) for each in errors if each.get("code") == code), "")


def _detail(kind: EventKind, events: Sequence[CallEvent]) -> dict[str, Any]:
    """Return the detail of the first event of a kind; {} if there is none."""
    return next((each.detail for each in events if each.kind == kind), {})


def _sentence(text: object) -> str:
    if not isinstance(text, str) or not text:
        return ""
    return sentence(clipped(text[:1].upper() + text[1:], _LONGEST))
