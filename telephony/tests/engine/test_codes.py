"""The words that are reported about a call, by themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import get_args

import pytest

from telephony.engine.codes import (
    CallProblem,
    EndedReason,
    ErrorCode,
    EventKind,
    OutcomeGroup,
    model_error_code,
    outcome_of,
)
from telephony.engine.timeline import TROUBLE

ENUMS: list[type[StrEnum]] = [EndedReason, ErrorCode, CallProblem, EventKind]


@pytest.mark.parametrize("member", [each for enum in ENUMS for each in enum], ids=repr)
def test_name_and_value_are_the_same_word(member: StrEnum) -> None:
    assert member.name == member.value.upper()
    assert f"{member}" == member.value


@pytest.mark.parametrize("reason", EndedReason)
def test_a_reason_has_a_label_and_a_sentence(reason: EndedReason) -> None:
    assert reason.label[-1:].isalpha()
    assert reason.meaning.endswith(".")
    assert reason.outcome in get_args(OutcomeGroup)


def test_no_two_codes_are_the_same() -> None:
    assert not set(ErrorCode) & set(CallProblem)


class TestOutcome:
    def test_a_call_that_its_backend_rejected_did_not_fail(self) -> None:
        assert outcome_of("rejected", "") == "rejected"

    def test_a_call_that_was_rejected_because_of_an_error_did(self) -> None:
        assert outcome_of("rejected", "call_start_timeout") == "failed"

    def test_a_problem_in_a_completed_call_does_not_make_it_fail(self) -> None:
        assert outcome_of("caller_hangup", "tool_failed") == "completed"

    def test_a_call_in_progress_has_no_outcome_yet(self) -> None:
        assert outcome_of("", "") == "in-progress"


@pytest.mark.parametrize("kind", EventKind)
def test_a_kind_has_words_for_a_line(kind: EventKind) -> None:
    assert kind.meaning[-1:].isalpha()


def test_a_code_of_openai_is_told_from_ours() -> None:
    assert model_error_code("invalid_api_key") == "model_invalid_api_key"


def test_pages_mark_what_somebody_who_looks_for_a_fault_should_see() -> None:
    trouble = {kind for kind in EventKind if kind.is_trouble}
    assert {EventKind.TOOL_FAILED, EventKind.NOT_ACCEPTED} < trouble
    assert TROUBLE - trouble == {EventKind.REPEATED}
    assert not trouble & {EventKind.ENDED, EventKind.CONNECTED, EventKind.INTERRUPTED}


def test_what_has_no_detail_says_so() -> None:
    assert EventKind.CONNECTED.detail == ""
    assert "`heardMs`" in EventKind.INTERRUPTED.detail
