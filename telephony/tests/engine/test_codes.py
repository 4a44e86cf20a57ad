"""The words that are reported about a call, by themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import get_args

import pytest

from telephony.engine.codes import (
    EndedReason,
    ErrorCode,
    EventKind,
    OutcomeGroup,
    model_error_code,
)
from telephony.engine.timeline import TROUBLE

ENUMS: list[type[StrEnum]] = [EndedReason, ErrorCode, EventKind]


@pytest.mark.parametrize("member", [each for enum in ENUMS for each in enum], ids=repr)
def test_name_and_value_are_the_same_word(member: StrEnum) -> None:
    assert member.name == member.value.upper()
    assert f"{member}" == member.value


@pytest.mark.parametrize("reason", EndedReason)
def test_a_reason_has_a_label_and_a_sentence(reason: EndedReason) -> None:
    assert reason.label[-1:].isalpha()
    assert reason.meaning.endswith(".")
    assert reason.outcome in get_args(OutcomeGroup)


@pytest.mark.parametrize("code", ErrorCode)
def test_a_code_says_what_happened_and_what_to_do(code: ErrorCode) -> None:
    assert code.meaning.endswith(".")
    assert code.remedy.endswith(".")


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
