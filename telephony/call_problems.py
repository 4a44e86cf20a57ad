"""What went wrong with a call, in sentences: for its page and for alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from telephony.engine.bounds import clipped, sentence
from telephony.engine.codes import (
    MODEL_PREFIX,
    CallProblem,
    ErrorCode,
    EventKind,
    model_error_code,
)
from telephony.explanations import guide_section_url, section_of
from telephony.models import CallEvent

#: The kinds of event that say more about an error code.
TELLING = (
    EventKind.ERROR,
    EventKind.TOOL_FAILED,
    EventKind.TOOL_TIMEOUT,
    EventKind.CARRIER_REJECTED,
    EventKind.CARRIER_UNAVAILABLE,
)

# A code's message in the timeline is OpenAI's, which says little without the meaning.
_IN_OPENAIS_WORDS = frozenset({ErrorCode.MODEL_REJECTED_CONFIGURATION.value})
# Its message is ours, and adds nothing: OpenAI's has a part of the key.
_WRONG_KEY = model_error_code("invalid_api_key")
# Characters of a message. The timeline has all of it.
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Problem:
    """``what`` and ``remedy`` are sentences in Markdown, ``specifics`` are plain text."""

    code: str
    what: str
    specifics: str
    remedy: str

    @property
    def href(self) -> str:
        """Return the path of the guide's section."""
        return guide_section_url(self.code)


def problem_of(code: str, events: Sequence[CallEvent]) -> Problem:
    """Return the problem with a call's error code; ``events`` are of its timeline, in order."""
    message = _message(code, events)
    if not message:
        return explained(code, _specifics(code, events))
    message = clipped(message, _LONGEST)
    if code == _WRONG_KEY:
        return explained(code)
    if _is_openais(code):
        return explained(code, f"OpenAI says: “{message}”")
    return Problem(code, "", message, explained(code).remedy)


def explained(code: str, specifics: str = "") -> Problem:
    """Return the problem with a code as the guide explains it."""
    known = section_of(code)
    if known is None:
        return Problem(code, f"The call failed with `{code}`.", specifics, "")
    return Problem(code, known.meaning, specifics, known.remedy)


def detail_of(kind: EventKind, events: Sequence[CallEvent]) -> dict[str, Any]:
    """Return the detail of the first event of a kind; {} if there is none."""
    return next((each.detail for each in events if each.kind == kind), {})


def _is_openais(code: str) -> bool:
    is_ours = code in list(ErrorCode) and code not in _IN_OPENAIS_WORDS
    return code.startswith(MODEL_PREFIX) and not is_ours


def _specifics(code: str, events: Sequence[CallEvent]) -> str:
    """Return what the timeline knows about a problem that has no message of onError."""
    match code:
        case CallProblem.CARRIER_REJECTED:
            found = detail_of(EventKind.CARRIER_REJECTED, events)
            said = f"Twilio says: “{found.get('message', '')}” (error {found.get('code', '')})"
            return said if found else ""
        case CallProblem.CARRIER_UNAVAILABLE:
            return _sentence(detail_of(EventKind.CARRIER_UNAVAILABLE, events).get("reason"))
        case CallProblem.TOOL_FAILED:
            return _sentence(detail_of(EventKind.TOOL_FAILED, events).get("message"))
        case CallProblem.TOOL_TIMEOUT:
            found = detail_of(EventKind.TOOL_TIMEOUT, events)
            return f"The tool is {found['tool']}." if "tool" in found else ""
    return ""


def _message(code: str, events: Sequence[CallEvent]) -> str:
    """Return the message of onError with this code, whether or not the number has a URL for it."""
    errors = (each.detail for each in reversed(events) if each.kind == EventKind.ERROR)
    return next((str(each.get("message", "")) for each in errors if each.get("code") == code), "")


def _sentence(text: object) -> str:
    if not isinstance(text, str) or not text:
        return ""
    return sentence(clipped(text[:1].upper() + text[1:], _LONGEST))
