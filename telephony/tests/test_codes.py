"""Everything that is reported of a call is a member of an enum: mypy refuses any other text."""

from __future__ import annotations

import ast
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from telephony.callbacks.on_call_start import CallStartFailed
from telephony.engine import actions
from telephony.engine.codes import (
    CallProblem,
    EndedReason,
    ErrorCode,
    EventKind,
    OnErrorCode,
    outcome_of,
)
from telephony.engine.context import CallContext, ModelFailed
from telephony.engine.leaving import Leaving
from telephony.engine.state import CallState
from telephony.models import OUTCOME, Call, CallEvent
from telephony.services import Timed, call_end, call_note, call_report_error

TELEPHONY = Path(__file__).resolve().parents[1]
ENUMS: list[type[StrEnum]] = [EndedReason, ErrorCode, CallProblem, EventKind]
MEMBERS = [member for enum in ENUMS for member in enum]


@pytest.mark.parametrize(
    ("function", "parameter", "type_of_it"),
    [
        (actions.Finish, "reason", EndedReason),
        (Leaving.end, "reason", EndedReason),
        (Leaving.fail, "reason", EndedReason),
        (Leaving.prepare, "reason", EndedReason),
        (call_end, "reason", EndedReason),
        (actions.ReportError, "code", OnErrorCode),
        (Leaving.fail, "code", OnErrorCode),
        (ModelFailed.__init__, "code", OnErrorCode),
        (call_report_error, "code", OnErrorCode),
        (CallStartFailed.__init__, "code", ErrorCode),
        (actions.Note, "kind", EventKind),
        (CallState.note, "kind", EventKind),
        (CallContext.note, "kind", EventKind),
        (call_note, "kind", EventKind),
    ],
)
def test_only_members_are_taken(
    function: Callable[..., Any], parameter: str, type_of_it: object
) -> None:
    assert get_type_hints(function)[parameter] == type_of_it


def test_only_members_are_written_together() -> None:
    assert get_args(Timed)[1] is EventKind


def test_every_member_is_used() -> None:
    """A member that nothing reports would be documented all the same."""
    used = {
        f"{node.value.id}.{node.attr}"
        for path in TELEPHONY.rglob("*.py")
        if "tests" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert {f"{type(member).__name__}.{member.name}" for member in MEMBERS} <= used


def test_values_fit_their_columns() -> None:
    for model, field, enum in (
        (Call, "ended_reason", EndedReason),
        (Call, "error_code", CallProblem),
        (CallEvent, "kind", EventKind),
    ):
        longest = model._meta.get_field(field).max_length
        assert longest is not None
        assert max(map(len, enum)) <= longest


@pytest.mark.django_db
@pytest.mark.parametrize("code", ["", "call_start_timeout"])
@pytest.mark.parametrize("reason", ["", *EndedReason, "of_another_version"])
def test_the_database_groups_calls_as_we_do(reason: str, code: str, call: Call) -> None:
    Call.objects.filter(pk=call.pk).update(ended_reason=reason, error_code=code)
    found = Call.objects.annotate(grouped_as=OUTCOME).get(pk=call.pk)
    assert found.grouped_as == found.outcome == outcome_of(reason, code)
