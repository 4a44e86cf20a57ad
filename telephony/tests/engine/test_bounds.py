"""Limits of texts and JSON from outside."""

import pytest

from telephony.engine.bounds import clipped, is_deeper_than, is_storable, sentence


def nested(levels, *, of=list):
    value = 0
    for _ in range(levels):
        value = [value] if of is list else {"a": value}
    return value


@pytest.mark.parametrize("of", [list, dict])
def test_depth_is_counted_in_lists_and_objects(of):
    assert not is_deeper_than(nested(32, of=of))
    assert is_deeper_than(nested(33, of=of))
    assert not is_deeper_than("text", 0)
    assert not is_deeper_than([1, [2], {"a": [3]}], 3)
    assert is_deeper_than([1, [2], {"a": [3]}], 2)


def test_depth_is_checked_without_recursion():
    assert is_deeper_than(nested(100_000))


@pytest.mark.parametrize("text", ["", "a\tb\r\nc", "Zürich 😀 \x7f", "\ud7ff\ue000\ufffd"])
def test_storable_text(text):
    assert is_storable(text)
    assert clipped(text) == text


@pytest.mark.parametrize("character", ["\0", "\x08", "\x0b", "\x1f", "\ufffe", "\uffff", "\ud800"])
def test_text_that_cannot_be_stored(character):
    assert not is_storable(f"a{character}b")
    assert clipped(f"a{character}b") == "a\ufffdb"


def test_a_long_text_is_cut():
    assert clipped("abcdef", 6) == "abcdef"
    assert clipped("abcdefg", 6) == "abcde…"
    assert len(clipped("a" * 10_000_000)) == 4_000


@pytest.mark.parametrize("value", [None, 7, ["a"], {"a": "b"}])
def test_a_value_other_than_text_becomes_empty(value):
    assert clipped(value) == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [("no answer", "no answer."), ("No answer.", "No answer."), ("Well...", "Well."), ("", ".")],
)
def test_a_sentence_ends_in_one_full_stop(text, told):
    assert sentence(text) == told
