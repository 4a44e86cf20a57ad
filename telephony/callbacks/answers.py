"""Reads a backend's answer to onCallStart: a plan, a refusal or a transfer.

An answer may be a megabyte of mistakes. Sizes are checked first, so that nothing walks through a
value that is too large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from telephony.callbacks.configuration import (
    CONFIGURATION,
    REFUSAL,
    SPOKEN_REFUSAL,
    TRANSFER,
    Answer,
)
from telephony.callbacks.problems import PlanError, Problems
from telephony.engine.plan import CallPlan, Refusal, Transfer

MOST_FIELDS = 256

Decision = CallPlan | Refusal | Transfer


def decide(body: object) -> Decision:
    """Read a decoded JSON answer; raise :class:`PlanError` if this server cannot act on it."""
    decision = parse_plan(body)
    _require_allowed(decision)
    return decision


def parse_plan(body: object) -> Decision:
    """Read a decoded JSON answer; raise :class:`PlanError` with every field that is wrong.

    Unknown fields are ignored, and ``null`` counts as absent. Which URLs and numbers this server
    allows is not checked.
    """
    if not isinstance(body, Mapping):
        raise PlanError({"body": ["Respond with a JSON object."]})
    _refuse_too_much(body)
    answer, problems = answer_of(body), Problems()
    values = _read(answer, body, problems)
    problems.require_none()
    kept = {each.name for each in fields(answer.becomes)} & values.keys()
    return answer.becomes(**{name: values[name] for name in kept})


def answer_of(body: Mapping[str, Any]) -> Answer:
    """Return the definition of an answer, by the fields that it has."""
    if body.get("reject"):
        message = body.get("message")
        return SPOKEN_REFUSAL if message and isinstance(message, str) else REFUSAL
    return CONFIGURATION if body.get("transfer") is None else TRANSFER


def _refuse_too_much(body: Mapping[str, Any]) -> None:
    problems = Problems()
    if len(body) > MOST_FIELDS:
        problems.add("body", f"Use at most {MOST_FIELDS} fields: there are {len(body):,}.")
    for field in CONFIGURATION.fields:
        if problem := field.kind.excess(body.get(field.name)):
            problems.add(field.name, problem)
    problems.require_none()


def _read(answer: Answer, body: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the values by attribute."""
    values: dict[str, Any] = {}
    for field in answer.fields:
        values[field.attribute] = field.read(body, problems)
        is_required = field.is_required or values.get(field.required_with)
        if is_required and not field.is_given(body):
            problems.add(field.name, answer.missing(field))
    match values.get("model"):
        case (preferred, *others):
            values |= {"model": preferred, "fallback_models": tuple(others)}
    models = [values["model"], *values.get("fallback_models", ())] if "model" in values else []
    for field in answer.fields:
        if problem := field.misfit(body, models):
            problems.add(field.name, problem)
    taken = {tool.name for tool in values.get("tools", ())} & {*values.get("builtin_tools", ())}
    for name in sorted(taken):
        problems.add("tools", f"{name} is also in builtinTools: rename yours.")
    return values


def _require_allowed(decision: Decision) -> None:
    """Raise :class:`PlanError` for URLs and numbers that this server does not allow."""
    problems = Problems()
    for answer in (CONFIGURATION, TRANSFER):
        for field in answer.fields if isinstance(decision, answer.becomes) else ():
            if value := getattr(decision, field.attribute, None):
                field.kind.refuse(field.name, value, problems)
    problems.require_none()
