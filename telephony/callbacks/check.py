"""A customer asks what a backend answers to onCallStart, field by field, without a call.

The backend gets the same question as for a call, and cannot tell: only the CallSid belongs to none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from asgiref.sync import async_to_sync
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts.models import WebhookSecret
from core.connections import give_connection_back
from core.ids import new_id
from telephony.bounded_json import NotUsable, decoded
from telephony.call_sids import new_test_sid
from telephony.callbacks import client
from telephony.callbacks.on_call_start import decide, post
from telephony.callbacks.payloads import CallFacts
from telephony.engine import plan as plans
from telephony.engine.bounds import clipped, is_deeper_than, sentence
from telephony.engine.plan import CallPlan, PlanError, Refusal, Transfer
from telephony.models import PhoneNumber


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """A field of the answer: what was given (credentials masked), and what is wrong with it."""

    name: str
    given: str
    problems: Sequence[str] = ()
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """What came back. ``problem`` is a sentence if there is nothing to look at field by field."""

    url: str
    call_sid: str
    seconds: float
    status: int | None = None
    problem: str = ""
    fields: Sequence[FieldCheck] = ()
    ignored: Sequence[str] = ()
    outcome: str = field(default="")

    @property
    def is_good(self) -> bool:
        return not self.problem and not any(each.problems for each in self.fields)


@sensitive_variables()
def call_start_check(*, number: PhoneNumber, caller: str) -> Check:
    """Ask the number's backend as for a call from ``caller``; wait 10 seconds at most."""
    facts = CallFacts(new_test_sid(), caller, number.phone_number, "inbound")
    secrets = WebhookSecret.objects.get(account_id=number.account_id).secrets(timezone.now())
    url = number.on_call_start_url
    give_connection_back()
    began = time.monotonic()
    try:
        answer = async_to_sync(post)(url, facts, secrets=secrets, message_id=f"msg_{new_id()}")
    except client.CallbackFailed as failure:
        seconds = time.monotonic() - began
        return Check(url, facts.call_sid, seconds, problem=sentence(f"No answer: {failure.reason}"))
    seconds = time.monotonic() - began
    return _checked(url, facts.call_sid, seconds, answer)


@sensitive_variables()
def _checked(url: str, call_sid: str, seconds: float, answer: client.Answer) -> Check:
    if not 200 <= answer.status < 300:
        problem = "Answer with a status from 200 to 299: the call would be rejected."
        return Check(url, call_sid, seconds, answer.status, problem)
    try:
        body = decoded(answer.body)
    except NotUsable as error:
        problem = f"The answer {error}: the call would be rejected."
        return Check(url, call_sid, seconds, answer.status, problem)
    problems: Mapping[str, list[str]] = {}
    try:
        outcome = _outcome(decide(body))
    except PlanError as error:
        outcome = _rejected(error)
        problems = _by_field(error)
    if whole := problems.get("body"):
        return Check(url, call_sid, seconds, answer.status, " ".join(whole))
    names = _names(body)
    return Check(
        url,
        call_sid,
        seconds,
        answer.status,
        fields=[_field(name, body, problems.get(name, ())) for name in names],
        ignored=sorted(clipped(name, 64) for name in set(body) - set(names))[:50],
        outcome=outcome,
    )


def _rejected(error: PlanError) -> str:
    more = f" {error.more} more problems are not shown." if error.more else ""
    return f"The call would be rejected, and onError would be told why.{more}"


def _by_field(error: PlanError) -> dict[str, list[str]]:
    """Return the problems by the field of the answer; a path within it stands before each."""
    problems: dict[str, list[str]] = {}
    for at, reasons in error.fields.items():
        name, _, path = at.partition(".")
        told = (f"{path}: {why}" if path else why for why in reasons)
        problems.setdefault(name, []).extend(told)
    return problems


def _outcome(decision: CallPlan | Refusal | Transfer) -> str:
    match decision:
        case Refusal(message=message) if message:
            return f"The caller would hear “{message}”, and the call would end."
        case Refusal(reason=reason):
            return f"The call would be turned away as {reason}, without an answer."
        case Transfer(to=to):
            return f"The caller would be put through to {to}, without a model."
        case CallPlan(model=model):
            return f"The call would be taken by {model}."


def _names(body: Mapping[str, Any]) -> Sequence[str]:
    """Return the fields that count in such an answer."""
    if body.get("reject"):
        return ("reject", "reason", "message", *(_CREDENTIALS if body.get("message") else ()))
    if body.get("transfer") is not None:
        return ("transfer", *_CREDENTIALS)
    return tuple(name for name in _EFFECTS if name not in _OTHER_ANSWERS)


def _field(name: str, body: Mapping[str, Any], problems: Sequence[str]) -> FieldCheck:
    value = body.get(name)
    is_given = value is not None and value != ""
    given = _shown(name, value) if is_given else ""
    effect = _EFFECTS[name]
    becomes = "" if problems else effect.given if is_given else effect.missing
    return FieldCheck(name, given, problems, becomes)


def _shown(name: str, value: Any) -> str:
    """Return a value as a page may have it: secrets and whole texts stay where they are."""
    if name in _SECRET and isinstance(value, str):
        return f"•••••••• ({len(value)} characters)"
    if name == "twilioAccountSid" and isinstance(value, str):
        return f"{value[:2]}…{value[-4:]}" if len(value) > 12 else "••••"
    if isinstance(value, str) and name.endswith("Url"):
        return _without_query(value)
    if isinstance(value, str):
        return value if len(value) <= 80 else f"{value[:80]}… ({len(value)} characters)"
    if name in ("twilioAccountSid", *_SECRET):
        return "••••"
    if name == "tools" and isinstance(value, list):
        return f"{len(value)} functions" if len(value) != 1 else "1 function"
    if is_deeper_than(value):
        return "nested too deep"
    return clipped(orjson.dumps(value).decode(), 80)


def _without_query(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "no URL"
    shown = f"{parts.scheme}://{host}{parts.path}"[:200]
    return f"{shown}?…" if parts.query else shown


_OTHER_ANSWERS = ("reject", "reason", "message", "transfer")
_CREDENTIALS = ("twilioAccountSid", "twilioAuthToken")
_SECRET = ("twilioAuthToken", "openaiApiKey")


class _Effect(NamedTuple):
    """What becomes of a field that is there, and of one that is not."""

    given: str
    missing: str


_EFFECTS: Mapping[str, _Effect] = {
    "twilioAccountSid": _Effect("Calls have to come from this account of Twilio's.", ""),
    "twilioAuthToken": _Effect("Twilio's signature is checked with it.", ""),
    "openaiApiKey": _Effect(
        "Opens the model's session. Whether OpenAI accepts it shows in a call.", ""
    ),
    "systemPrompt": _Effect("What the model is told to be.", ""),
    "onToolCallUrl": _Effect("Asked when the model calls a tool.", "No tool of yours is called."),
    "tools": _Effect("What the model may call.", "None."),
    "builtinTools": _Effect("What the model may do with the call.", "None: it cannot hang up."),
    "transferNumbers": _Effect(
        "The only numbers that transfer_call may dial.",
        "transfer_call may dial any number that may be called.",
    ),
    "voice": _Effect("The agent's voice.", f"{plans.DEFAULT_VOICE}, the default."),
    "model": _Effect("Takes the call.", f"{plans.DEFAULT_MODEL}, the default."),
    "vadEagerness": _Effect("How soon a pause ends a sentence.", "high, the default."),
    "noiseReduction": _Effect("Before the model hears the caller.", "near_field, the default."),
    "greeting": _Effect("Said first, by the model.", "The caller speaks first."),
    "greetingUrl": _Effect(
        "Played first, by Twilio. A test call leaves it out.", "Nothing is played."
    ),
    "inactivityTimeoutMs": _Effect(
        "The call ends after so much silence.",
        f"{plans.DEFAULT_INACTIVITY_MS}, the default.",
    ),
    "maxDurationSeconds": _Effect(
        "The call ends then at the latest.",
        f"{plans.DEFAULT_MAX_DURATION_S}, the default.",
    ),
    "metadata": _Effect("Comes back with every later callback.", "None."),
    "reject": _Effect("The call is not taken.", ""),
    "reason": _Effect("How it is turned away.", "rejected, the default."),
    "message": _Effect("Said before the call ends.", "The call is not answered."),
    "transfer": _Effect("The caller is put through.", ""),
}
