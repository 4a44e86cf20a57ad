"""The dashboard's check of onCallStart: the backend's response, field by field, without a call.

The backend gets the same request as for a call, and cannot tell the difference: only the CallSid
belongs to no call.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from asgiref.sync import async_to_sync
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts.models import WebhookSecret
from core.connections import give_connection_back
from core.ids import new_id
from telephony.bounded_json import NotUsable, decoded
from telephony.call_sids import new_test_sid
from telephony.callback_urls import without_query
from telephony.callbacks import client
from telephony.callbacks.answers import Decision, answer_of, decide
from telephony.callbacks.attempts import answer_to_keep
from telephony.callbacks.configuration import Field
from telephony.callbacks.kinds import AccountSid, Tools, Url
from telephony.callbacks.on_call_start import post
from telephony.callbacks.payloads import CallFacts
from telephony.callbacks.problems import PlanError
from telephony.engine.bounds import clipped, is_deeper_than, sentence
from telephony.engine.models import retirement_of
from telephony.engine.plan import CallPlan, Refusal, Transfer, sid_ending
from telephony.models import PhoneNumber


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """A field of the response: its value (credentials masked) and its problems."""

    name: str
    given: str
    problems: Sequence[str] = ()
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """The result. ``problem`` is a sentence if the response has no fields to check.

    ``answer`` is the beginning of the response, without credentials.
    """

    url: str
    call_sid: str
    seconds: float
    status: int | None = None
    answer: str = ""
    problem: str = ""
    fields: Sequence[FieldCheck] = ()
    ignored: Sequence[str] = ()
    outcome: str = ""
    warnings: Sequence[str] = ()

    @property
    def is_good(self) -> bool:
        return not self.problem and not any(each.problems for each in self.fields)


@sensitive_variables()
def call_start_check(*, number: PhoneNumber, caller: str) -> Check:
    """Send onCallStart as for a call from ``caller``; wait at most 10 seconds."""
    facts = CallFacts(new_test_sid(), caller, number.phone_number, "inbound")
    secrets = WebhookSecret.objects.get(account_id=number.account_id).secrets(timezone.now())
    url = number.on_call_start_url
    give_connection_back()
    began = time.monotonic()
    try:
        answer = async_to_sync(post)(url, facts, secrets=secrets, message_id=f"msg_{new_id()}")
    except client.CallbackFailed as failure:
        seconds = time.monotonic() - began
        problem = sentence(f"No response: {failure.reason}")
        return Check(without_query(url), facts.call_sid, seconds, problem=problem)
    response = Check(
        without_query(url),
        facts.call_sid,
        time.monotonic() - began,
        answer.status,
        answer_to_keep(answer.body, b"{}", known=secrets),
    )
    return _checked(response, answer)


@sensitive_variables()
def _checked(response: Check, answer: client.Answer) -> Check:
    if not 200 <= answer.status < 300:
        problem = "Respond with a status from 200 to 299. The call would be rejected."
        return replace(response, problem=problem)
    try:
        body = decoded(answer.body)
    except NotUsable as error:
        problem = f"The response {error}. The call would be rejected."
        return replace(response, problem=problem)
    problems: Mapping[str, list[str]] = {}
    warnings: list[str] = []
    try:
        decision = decide(body)
        outcome, warnings = _outcome(decision), _warnings(decision)
    except PlanError as error:
        outcome = _rejected(error)
        problems = _by_field(error)
    if whole := problems.get("body"):
        return replace(response, problem=" ".join(whole))
    known = answer_of(body).fields
    unknown = sorted(clipped(name, 64) for name in set(body) - {each.name for each in known})
    return replace(
        response,
        fields=[_field(each, body, problems.get(each.name, ())) for each in known],
        ignored=unknown[:50],
        outcome=outcome,
        warnings=warnings,
    )


def _rejected(error: PlanError) -> str:
    more = f" {error.more} more problems are not shown." if error.more else ""
    return f"The call would be rejected, and onError would say why.{more}"


def _by_field(error: PlanError) -> dict[str, list[str]]:
    """Return the problems by field; a path within the field precedes each."""
    problems: dict[str, list[str]] = {}
    for at, reasons in error.fields.items():
        name, _, path = at.partition(".")
        told = (f"{path}: {why}" if path else why for why in reasons)
        problems.setdefault(name, []).extend(told)
    return problems


def _outcome(decision: Decision) -> str:
    match decision:
        case Refusal(message=message) if message:
            return f"The caller would hear “{message}”, and the call would end."
        case Refusal(reason=reason):
            return f"The call would be rejected as {reason}, without being answered."
        case Transfer(to=to):
            return f"The caller would be transferred to {to}, without a model."
        case CallPlan(model=model, fallback_models=others):
            follows = f" {' or '.join(others)} would follow if it could not." if others else ""
            return f"{model} would answer the call.{follows}"


def _warnings(decision: Decision) -> list[str]:
    """Return what works today and soon will not."""
    if not isinstance(decision, CallPlan):
        return []
    today = timezone.now().date()
    retirements = (retirement_of(model, today) for model in decision.models)
    return list(dict.fromkeys(str(each) for each in retirements if each))


def _field(field: Field, body: Mapping[str, Any], problems: Sequence[str]) -> FieldCheck:
    is_given = field.is_given(body)
    given = _shown(field, body[field.name]) if is_given else ""
    effect = field.about if is_given else _without(field)
    return FieldCheck(field.name, given, problems, "" if problems else effect.replace("`", ""))


def _without(field: Field) -> str:
    return f"{field.default}, the default." if field.default else field.without


def _shown(field: Field, value: Any) -> str:
    """Return a value for a page: secrets are masked and long texts are cut."""
    match field.kind, value:
        case _, str() if field.is_secret:
            return f"•••••••• ({len(value)} characters)"
        case AccountSid(), str() if len(value) > 12:
            return sid_ending(value)
        case AccountSid(), _:
            return "••••"
        case _ if field.is_secret:
            return "••••"
        case Url(), str():
            return without_query(value)
        case _, str():
            return value if len(value) <= 80 else f"{value[:80]}… ({len(value)} characters)"
        case Tools(), list():
            return f"{len(value)} functions" if len(value) != 1 else "1 function"
    return (
        "nested too deeply" if is_deeper_than(value) else clipped(orjson.dumps(value).decode(), 80)
    )
