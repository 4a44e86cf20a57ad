"""The demo's output. ``devtools/tests/test_development.py`` runs all of it."""

from __future__ import annotations

import io

import pytest

from sandbox.demo.console import Console, pretty


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_that_fits_is_one_line() -> None:
    assert pretty({"result": ["a", 1, None]}, 80) == '{"result": ["a", 1, null]}'


def test_json_is_broken_where_it_must_be() -> None:
    value = {"callSid": "CA1", "transcript": [{"role": "user", "text": "Grüße"}, {}], "none": {}}
    assert pretty(value, 40) == (
        "{\n"
        '  "callSid": "CA1",\n'
        '  "transcript": [\n'
        '    {"role": "user", "text": "Grüße"},\n'
        "    {}\n"
        "  ],\n"
        '  "none": {}\n'
        "}"
    )


def test_json_that_is_long_or_deep_is_cut() -> None:
    value = {"prompt": "x" * 200, "tools": [{"name": "t", "parameters": {"type": "object"}}]}
    assert pretty(value, 200) == (
        f'{{"prompt": "{"x" * 70}…", "tools": [{{"name": "t", "parameters": {{…}}}}]}}'
    )


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, file = Terminal(), io.StringIO()
    Console(terminal).heading("Hello")
    Console(file).heading("Hello")
    assert terminal.getvalue() == "\n\033[1mHello\033[0m\n"
    assert file.getvalue() == "\nHello\n"


def test_who_wants_no_colours_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    Console(terminal).check("It works.", is_fine=True)
    assert terminal.getvalue() == "  ok      It works.\n"


def test_a_timeline_is_wrapped_below_itself() -> None:
    file = io.StringIO()
    Console(file).moment(1.5, "Agent", "word " * 20)
    first, second = file.getvalue().splitlines()
    assert first.startswith("    1.50 s  Agent       word word")
    assert second == " " * 24 + "word word word word word"
