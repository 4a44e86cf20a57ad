"""The mutants of a piece of source."""

from __future__ import annotations

import ast

import pytest

from devtools.mutation.operators import mutants
from devtools.mutation.run import ENGINE, ROOT


def changed(source: str) -> list[str]:
    """Return the source of each mutant."""
    return [mutant.of(source.encode()).decode() for mutant in mutants(source.encode())]


def within(line: str) -> list[str]:
    """Return the mutants of a line within a function."""
    head = "def f(x, y):\n    "
    return [after.removeprefix(head) for after in changed(head + line)]


@pytest.mark.parametrize(
    ("line", "faults"),
    [
        ("x.leave()", ["pass"]),
        ("return x < y", ["return None", "return x <= y"]),
        ("return x is not y", ["return None", "return x is y"]),
        ("return not x", ["return None", "return x"]),
        (
            "return x and y.may_call()",
            [
                "return None",
                "return x or y.may_call()",
                "return True and y.may_call()",
                "return x and True",
            ],
        ),
        (
            "return (x or 0) and y",
            [
                "return None",
                "return (x or 0) or y",
                "return (True) and y",
                "return (x or 0) and True",
                "return (x and 0) and y",
                "return (False or 0) and y",
                "return (x or 1) and y",
                "return (x or -1) and y",
            ],
        ),
        ("if x: y()", ["if not (x): y()", "if x: pass"]),
        ("if x == y: y()", ["if x != y: y()", "if x == y: pass"]),
        ("x.failures = 0", ["pass", "x.failures = 1", "x.failures = -1"]),
        ("x.failures += y", ["pass", "x.failures -= y"]),
        ("x = x.next", ["pass"]),
        ("z = x.next", []),
        ("y(x[1:])", ["pass", "y(x)", "y(x[2:])", "y(x[0:])"]),
        ("y(min(x))", ["pass", "y(max(x))"]),
        ("y(True)", ["pass", "y(False)"]),
        ("raise x", ["pass"]),
        ("del x.y", ["pass"]),
        ("return", ["pass"]),
        ("return None", []),
        ("return False", ["return True"]),
        ("for y in x: continue", ["for y in x: break"]),
        ("y(z for z in x if z)", ["pass", "y(z for z in x if not (z))"]),
        ('"""A text."""', []),
        ("z: int = x", []),
        ("return f'{x + 1}'", ["return None"]),
        ("x('ü' + y)", ["pass", "x('ü' - y)"]),
    ],
)
def test_of_a_line_in_a_function(line: str, faults: list[str]) -> None:
    assert sorted(within(line)) == sorted(faults)


def test_a_number_at_the_top_of_a_module_is_a_decision() -> None:
    assert changed("SECONDS = 10\nIS_ON = True\n") == ["SECONDS = 10\nIS_ON = False\n"]


def test_annotations_and_decorators_are_no_code() -> None:
    assert changed("@frozen(True)\nclass A:\n    x: int | None\n") == []


@pytest.mark.parametrize(
    ("source", "function"),
    [
        ("def f(): g()", "f"),
        ("class A:\n    def f(self): g()", "A.f"),
        ("class A:\n    def f(self):\n        def h(): g()", "A.f"),
        ("def f(x=True): ...", ""),
        ("class A:\n    x = True", ""),
    ],
)
def test_each_tells_the_function_that_it_is_in(source: str, function: str) -> None:
    assert {mutant.function for mutant in mutants(source.encode())} == {function}


@pytest.mark.parametrize("name", ["playback.py", "dtmf.py", "timers.py"])
def test_each_of_the_engines_is_python_and_another_program(name: str) -> None:
    source = (ROOT / ENGINE / name).read_bytes()
    whole = ast.dump(ast.parse(source))
    for mutant in mutants(source):
        assert ast.dump(ast.parse(mutant.of(source))) != whole
