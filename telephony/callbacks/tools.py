"""onToolCall: the customer's backend runs a tool for the model."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

import orjson
from django.utils import timezone

from core.ids import new_id
from telephony.bounded_json import NotUsable, beside_the_loop, decoded
from telephony.callbacks import client, payloads, signing
from telephony.callbacks.attempts import Result, response_to_keep
from telephony.callbacks.payloads import CallFacts
from telephony.durations import ms_since
from telephony.engine.bounds import DEEPEST, is_deeper_than, sentence

TIMEOUT_SECONDS = 30.0
# The model has a context of 32,000 tokens, and the conversation needs some of them.
LARGEST_ANSWER = 64 * 1024


class ToolFailed(Exception):
    """There is no result. ``message`` is a sentence for the model, without the URL."""

    def __init__(self, code: str, message: str, result: Result) -> None:
        self.code = code
        self.message = message
        self.result = result
        super().__init__(message)


async def run_tool(
    url: str,
    facts: CallFacts,
    *,
    name: str,
    arguments: dict[str, Any],
    secrets: Sequence[str],
    traceparent: str = "",
    known: Sequence[str] = (),
) -> str:
    """Run a tool once; return its ``result`` for the model: a text as it is, or JSON.

    :param known: other credentials of the customer, which a failed response is stored without.

    Raises :class:`ToolFailed`: tool_timeout (30 seconds), tool_unreachable, tool_bad_status or
    tool_bad_answer.
    """
    now = timezone.now()
    body = payloads.encode(payloads.tool_call(facts, name, arguments, now))
    began = monotonic()
    headers = signing.headers(body, secrets=secrets, message_id=f"msg_{new_id()}", now=now)
    if traceparent:
        headers["traceparent"] = traceparent
    try:
        answer = await client.post(
            url, body, headers, timeout=TIMEOUT_SECONDS, at_most=LARGEST_ANSWER
        )
    except client.CallbackFailed as failure:
        result = Result(failure.code, at=now, duration_ms=ms_since(began))
        raise ToolFailed(*_no_answer(name, failure), result) from None
    took = ms_since(began)
    told = await _read(name, answer)
    if isinstance(told, str):
        return told
    kept = await response_to_keep(answer.body, sent=body, known=[*secrets, *known])
    result = Result(str(answer.status), at=now, duration_ms=took, answer=kept)
    raise ToolFailed(*told, result)


async def _read(name: str, answer: client.Answer) -> str | tuple[str, str]:
    """Return the result for the model, or why there is none: a code and a sentence."""
    if not 200 <= answer.status < 300:
        return "tool_bad_status", f"The tool {name} failed with HTTP status {answer.status}."
    told = await beside_the_loop(len(answer.body), _told, answer.body)
    if isinstance(told, NotUsable):
        return "tool_bad_answer", f"The tool {name} responded {told}."
    return told


def _no_answer(name: str, failure: client.CallbackFailed) -> tuple[str, str]:
    match failure:
        case client.TimedOut():
            return "tool_timeout", f"The tool {name} did not respond in time."
        case client.TooLarge():
            return "tool_bad_answer", sentence(f"The tool {name} failed: {failure.reason}")
        case _:
            return "tool_unreachable", f"The tool {name} could not be reached."


def _told(body: bytes) -> str | NotUsable:
    """Return the result for the model, or why the response has none."""
    try:
        answer = decoded(body)
    except NotUsable as error:
        return NotUsable(f"with something that {error}")
    if not isinstance(answer, dict) or "result" not in answer:
        return NotUsable("without a result")
    if is_deeper_than(answer["result"]):
        return NotUsable(f"with a result that is nested more than {DEEPEST} deep")
    result = answer["result"]
    return result if isinstance(result, str) else orjson.dumps(result).decode()
