from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from core.api import is_deeper_than
from core.tests.poisons import PEOPLES
from core.texts import (
    cleaned_json,
    cleaned_line,
    cleaned_text,
    line_problem,
    text_problem,
    validate_line,
)

CONTROLS = ["\0", "\x07", "\x1b", "\x7f", "\x85", "\x9f", "\ud800", "\udfff"]
BREAKS = ["\t", "\n", "\r", "\u2028", "\u2029"]


@pytest.mark.parametrize("text", ["", "Bob's Bakery", "\u202e", "\ufeff", "\uffff", *PEOPLES])
def test_what_people_write_passes(text):
    assert text_problem(text) is None
    assert line_problem(text) is None
    assert cleaned_line(text) == cleaned_text(text) == text


@pytest.mark.parametrize("control", CONTROLS)
def test_control_characters_and_halves_are_in_no_text(control):
    problem = f"Remove control characters, such as U+{ord(control):04X}."
    for find in (text_problem, line_problem):
        assert find(f"a{control}b") == problem
    with pytest.raises(ValidationError, match="Remove control characters"):
        validate_line(f"a{control}b")
    assert cleaned_text(f"a{control}b") == cleaned_line(f"a{control}b") == "ab"


@pytest.mark.parametrize("line_break", BREAKS)
def test_a_line_is_one(line_break):
    text = f"a{line_break}b"
    assert text_problem(text) is None
    assert cleaned_text(text) == text
    assert line_problem(text) == "Use one line, without tabs and line breaks."
    assert cleaned_line(text) == "ab"


def test_json_is_cleaned_all_through():
    dirty = {"a\0": ["b\x1b", {"c": "d\ud800"}, 1, None, True], "e": "f\n"}
    assert cleaned_json(dirty) == {"a": ["b", {"c": "d"}, 1, None, True], "e": "f\n"}


@pytest.mark.parametrize(
    ("body", "depth"),
    [("a", 0), ([], 1), ({"a": []}, 2), ([1, {"a": [{}]}, []], 4), ([[[[]], []], []], 4)],
)
def test_depth(body, depth):
    assert not is_deeper_than(body, depth)
    assert depth == 0 or is_deeper_than(body, depth - 1)
