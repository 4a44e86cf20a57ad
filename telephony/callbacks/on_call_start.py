"""onCallStart: the customer's backend decides what becomes of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils import timezone

from telephony.bounded_json import NotUsable, beside_the_loop, decoded
from telephony.callback_urls import callback_url_problem
from telephony.callbacks import client, payloads, signing
from telephony.callbacks.payloads import CallFacts
from telephony.engine.bounds import sentence
from telephony.engine.plan import (
    MOST_TOOLS,
    CallPlan,
    PlanError,
    Refusal,
    Transfer,
    parse_plan,
    refuse_too_many,
)
from telephony.engine.plan_reader import Problems
from telephony.numbering import call_problem

# Twilio waits 15 seconds for its own answer.
TIMEOUT_SECONDS = 10.0
# Of all tools together, as JSON. OpenAI takes 16,384 tokens of instructions and tools.
MOST_TOOL_BYTES = 64 * 1024
_WHAT_FITS = (
    f"Answer with a JSON object of at most {MOST_TOOLS} tools and "
    f"{payloads.MOST_METADATA_BYTES // 1024} KB of metadata."
)
_LOOP = "transfer: Use another number than the one that was called, which would ring here again."


class CallStartFailed(Exception):
    """The call cannot be taken. ``code`` and ``message`` are what onError tells the customer."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


async def ask(
    url: str, facts: CallFacts, *, secrets: Sequence[str], message_id: str
) -> CallPlan | Refusal | Transfer:
    """Ask once how to handle a call, and wait 10 seconds at most; ``message_id`` is the webhook-id.

    Raises :class:`CallStartFailed`: call_start_timeout, call_start_unreachable,
    call_start_bad_status, or call_start_bad_answer, which names the fields but not their values.
    """
    try:
        answer = await post(url, facts, secrets=secrets, message_id=message_id)
    except client.CallbackFailed as failure:
        raise _no_answer(failure) from None
    if not 200 <= answer.status < 300:
        raise CallStartFailed(
            "call_start_bad_status", f"onCallStart answered with status {answer.status}."
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
    """Send the question; return the answer, whatever it is, or raise ``client.CallbackFailed``."""
    now = timezone.now()
    body = payloads.encode(payloads.call_start(facts, now))
    headers = signing.headers(body, secrets=secrets, message_id=message_id, now=now)
    return await client.post(url, body, headers, timeout=TIMEOUT_SECONDS)


def decide(body: object) -> CallPlan | Refusal | Transfer:
    """Return what a decoded answer decides; raise :class:`PlanError` if it cannot be used here."""
    if isinstance(body, Mapping):
        refuse_too_many(body)
        _refuse_too_large(body)
    decision = parse_plan(body)
    _refuse_what_may_not_be(decision)
    return decision


def _no_answer(failure: client.CallbackFailed) -> CallStartFailed:
    match failure:
        case client.TimedOut():
            code = "call_start_timeout"
        case client.TooLarge():
            code = "call_start_bad_answer"
        case _:
            code = "call_start_unreachable"
    return CallStartFailed(code, sentence(f"onCallStart failed: {failure.reason}"))


def _decision(body: bytes) -> CallPlan | Refusal | Transfer | CallStartFailed:
    try:
        return decide(decoded(body))
    except NotUsable as error:
        why = f"onCallStart answered with something that {error}. {_WHAT_FITS}"
    except PlanError as error:
        return _cannot_be_used(str(error))
    return CallStartFailed("call_start_bad_answer", why)


def _cannot_be_used(why: str) -> CallStartFailed:
    return CallStartFailed(
        "call_start_bad_answer", f"The answer of onCallStart cannot be used. {why}"
    )


def _refuse_what_may_not_be(decision: CallPlan | Refusal | Transfer) -> None:
    """Raise :class:`PlanError` for what is well formed, but not allowed on this server."""
    problems = Problems()
    if isinstance(decision, Transfer):
        _look_at_number(problems, "transfer", decision.to)
    elif isinstance(decision, CallPlan):
        urls = {"onToolCallUrl": decision.on_tool_call_url, "greetingUrl": decision.greeting_url}
        for name, url in urls.items():
            if url and callback_url_problem(url):
                problems.add(name, "Use a public https:// URL.")
        for index, number in enumerate(decision.transfer_numbers):
            _look_at_number(problems, f"transferNumbers.{index}", number)
    problems.require_none()


def _refuse_too_large(body: Mapping[str, Any]) -> None:
    """Raise :class:`PlanError` for what would take long to be looked at."""
    problems = Problems()
    if problem := payloads.json_problem(body.get("tools"), most=MOST_TOOL_BYTES):
        problems.add("tools", problem)
    if problem := payloads.metadata_problem(body.get("metadata")):
        problems.add("metadata", problem)
    problems.require_none()


def _look_at_number(problems: Problems, name: str, number: str) -> None:
    if problem := call_problem(number):
        problems.add(name, problem.message)
