"""onCallStart: the customer's backend decides how to handle a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from django.utils import timezone

from telephony.bounded_json import NotUsable, beside_the_loop, decoded
from telephony.callbacks import client, payloads, signing
from telephony.callbacks.answers import Decision, decide
from telephony.callbacks.attempts import Result, response_to_keep
from telephony.callbacks.configuration import MOST_TOOLS
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.problems import PlanError
from telephony.durations import ms_since
from telephony.engine.bounds import sentence
from telephony.engine.codes import ErrorCode
from telephony.engine.plan import Transfer

# Twilio waits 15 seconds for our response to its webhook.
TIMEOUT_SECONDS = 10.0
_WHAT_FITS = (
    f"Respond with a JSON object that has at most {MOST_TOOLS} tools and "
    f"{payloads.MOST_METADATA_BYTES // 1024} KB of metadata."
)
_LOOP = "transfer: Use a number other than the one that was called, which would ring here again."


@dataclass(frozen=True, slots=True)
class Asked:
    """A usable response: the decision, its HTTP status and how long it took."""

    decision: Decision
    status: int
    duration_ms: int


class CallStartFailed(Exception):
    """The call cannot be accepted. ``code`` and ``message`` are for onError."""

    def __init__(self, code: ErrorCode, message: str, result: Result) -> None:
        self.code = code
        self.message = message
        self.result = result
        super().__init__(message)


async def ask(
    url: str, facts: CallFacts, *, secrets: Sequence[str], message_id: str, traceparent: str = ""
) -> Asked:
    """Ask once how to handle a call; wait at most 10 seconds. ``message_id`` is the webhook-id.

    Raises :class:`CallStartFailed`; its message names invalid fields, but not their values.
    """
    at, began = timezone.now(), monotonic()
    try:
        answer = await post(
            url, facts, secrets=secrets, message_id=message_id, traceparent=traceparent
        )
    except client.CallbackFailed as failure:
        result = Result(failure.code, at=at, duration_ms=ms_since(began))
        raise CallStartFailed(*_no_answer(failure), result) from None
    took = ms_since(began)
    decision = await _read(answer, facts)
    if isinstance(decision, _Unusable):
        kept = await response_to_keep(answer.body, known=secrets)
        result = Result(str(answer.status), at=at, duration_ms=took, answer=kept)
        raise CallStartFailed(decision.code, decision.message, result)
    return Asked(decision, answer.status, took)


async def post(
    url: str, facts: CallFacts, *, secrets: Sequence[str], message_id: str, traceparent: str = ""
) -> client.Answer:
    """Send onCallStart; return any response, or raise ``client.CallbackFailed``."""
    now = timezone.now()
    body = payloads.encode(payloads.call_start(facts, now))
    headers = signing.headers(body, secrets=secrets, message_id=message_id, now=now)
    if traceparent:
        headers["traceparent"] = traceparent
    return await client.post(url, body, headers, timeout=TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class _Unusable:
    """Why a response cannot be used, for onError."""

    code: ErrorCode
    message: str


async def _read(answer: client.Answer, facts: CallFacts) -> Decision | _Unusable:
    if not 200 <= answer.status < 300:
        message = f"onCallStart responded with status {answer.status}."
        return _Unusable(ErrorCode.CALL_START_BAD_STATUS, message)
    decision = await beside_the_loop(len(answer.body), _decision, answer.body)
    if isinstance(decision, Transfer) and decision.to == facts.called_number:
        return _cannot_be_used(_LOOP)
    return decision


def _no_answer(failure: client.CallbackFailed) -> tuple[ErrorCode, str]:
    match failure:
        case client.TimedOut():
            code = ErrorCode.CALL_START_TIMEOUT
        case client.TooLarge():
            code = ErrorCode.CALL_START_BAD_ANSWER
        case _:
            code = ErrorCode.CALL_START_UNREACHABLE
    return code, sentence(f"onCallStart failed: {failure.reason}")


def _decision(body: bytes) -> Decision | _Unusable:
    try:
        return decide(decoded(body))
    except NotUsable as error:
        why = f"The response of onCallStart {error}. {_WHAT_FITS}"
    except PlanError as error:
        return _cannot_be_used(str(error))
    return _Unusable(ErrorCode.CALL_START_BAD_ANSWER, why)


def _cannot_be_used(why: str) -> _Unusable:
    return _Unusable(
        ErrorCode.CALL_START_BAD_ANSWER, f"The response of onCallStart cannot be used. {why}"
    )
