"""onCallStart: the customer's backend decides how to handle a call."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone

from telephony.bounded_json import NotUsable, beside_the_loop, decoded
from telephony.callbacks import client, payloads, signing
from telephony.callbacks.answers import Decision, decide
from telephony.callbacks.configuration import MOST_TOOLS
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.problems import PlanError
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


class CallStartFailed(Exception):
    """The call cannot be accepted. ``code`` and ``message`` are for onError."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


async def ask(url: str, facts: CallFacts, *, secrets: Sequence[str], message_id: str) -> Decision:
    """Ask once how to handle a call; wait at most 10 seconds. ``message_id`` is the webhook-id.

    Raises :class:`CallStartFailed`; its message names invalid fields, but not their values.
    """
    try:
        answer = await post(url, facts, secrets=secrets, message_id=message_id)
    except client.CallbackFailed as failure:
        raise _no_answer(failure) from None
    if not 200 <= answer.status < 300:
        raise CallStartFailed(
            ErrorCode.CALL_START_BAD_STATUS, f"onCallStart responded with status {answer.status}."
        )
    decision = await beside_the_loop(len(answer.body), _decision, answer.body)
    if isinstance(decision, Transfer) and decision.to == facts.called_number:
        decision = _cannot_be_used(_LOOP)
    if isinstance(decision, CallStartFailed):
        raise decision
    return decision


async def post(
    url: str, facts: CallFacts, *, secrets: Sequence[str], message_id: str
) -> client.Answer:
    """Send onCallStart; return any response, or raise ``client.CallbackFailed``."""
    now = timezone.now()
    body = payloads.encode(payloads.call_start(facts, now))
    headers = signing.headers(body, secrets=secrets, message_id=message_id, now=now)
    return await client.post(url, body, headers, timeout=TIMEOUT_SECONDS)


def _no_answer(failure: client.CallbackFailed) -> CallStartFailed:
    match failure:
        case client.TimedOut():
            code = ErrorCode.CALL_START_TIMEOUT
        case client.TooLarge():
            code = ErrorCode.CALL_START_BAD_ANSWER
        case _:
            code = ErrorCode.CALL_START_UNREACHABLE
    return CallStartFailed(code, sentence(f"onCallStart failed: {failure.reason}"))


def _decision(body: bytes) -> Decision | CallStartFailed:
    try:
        return decide(decoded(body))
    except NotUsable as error:
        why = f"The response of onCallStart {error}. {_WHAT_FITS}"
    except PlanError as error:
        return _cannot_be_used(str(error))
    return CallStartFailed(ErrorCode.CALL_START_BAD_ANSWER, why)


def _cannot_be_used(why: str) -> CallStartFailed:
    return CallStartFailed(
        ErrorCode.CALL_START_BAD_ANSWER, f"The response of onCallStart cannot be used. {why}"
    )
