"""onToolCall: the customer's backend runs a tool for the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from django.utils import timezone

from config.ids import new_id
from telephony.callbacks import client, payloads, signing
from telephony.callbacks.payloads import CallFacts

TIMEOUT_SECONDS = 30.0


class ToolFailed(Exception):
    """There is no result. ``message`` is a sentence for the model, without anybody's URL."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


async def run_tool(
    url: str, facts: CallFacts, *, name: str, arguments: dict[str, Any], secrets: Sequence[str]
) -> Any:
    """Run a tool once, and return its ``result``: any JSON value, null included.

    Raises :class:`ToolFailed`: tool_timeout (30 seconds), tool_unreachable, tool_bad_status or
    tool_bad_answer.
    """
    now = timezone.now()
    body = payloads.encode(payloads.tool_call(facts, name, arguments, now))
    headers = signing.headers(body, secrets=secrets, message_id=f"msg_{new_id()}", now=now)
    try:
        answer = await client.post(url, body, headers, timeout=TIMEOUT_SECONDS)
    except client.CallbackFailed as failure:
        raise _no_answer(name, failure) from None
    if not 200 <= answer.status < 300:
        raise ToolFailed(
            "tool_bad_status", f"The tool {name} failed with HTTP status {answer.status}."
        )
    return _result(name, answer.body)


def _no_answer(name: str, failure: client.CallbackFailed) -> ToolFailed:
    match failure:
        case client.TimedOut():
            return ToolFailed("tool_timeout", f"The tool {name} did not answer in time.")
        case client.TooLarge():
            return ToolFailed("tool_bad_answer", f"The tool {name} answered with too much data.")
        case _:
            return ToolFailed("tool_unreachable", f"The tool {name} could not be reached.")


def _result(name: str, body: bytes) -> Any:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ToolFailed(
            "tool_bad_answer", f"The tool {name} answered with something that is not JSON."
        ) from None
    if not isinstance(answer, dict) or "result" not in answer:
        raise ToolFailed("tool_bad_answer", f"The tool {name} answered without a result.")
    return answer["result"]
