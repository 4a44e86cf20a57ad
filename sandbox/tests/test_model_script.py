"""Scripts: in a test, and in a system prompt."""

import pytest

from sandbox.model.script import (
    Call,
    Close,
    Drop,
    Error,
    Expire,
    Fail,
    Hold,
    Say,
    Script,
    ScriptError,
    Stall,
    Wait,
    script_in,
)


def test_it_works() -> None:
    script = Script([Say("Hello"), (Say("One moment"), Call("look_up", {}))])

    assert script.turn(0) == (Say("Hello"),)
    assert script.turn(1) == (Say("One moment"), Call("look_up", {}))
    assert script.turn(2) is None


PROMPT = """Be friendly.

```sandbox
[
  {"say": "Hello"},
  [{"say": "One moment."}, {"call": "look_up_order", "arguments": {"order": 7}}],
  {"call": "end_call"},
  [{"wait": 1500}, {"fail": "server_error"}],
  {"error": "rate_limit_exceeded"},
  {"stall": true},
  {"close": 1011},
  {"drop": true},
  {"hold": 3000},
  {"expire": true}
]
```

Thank you.
"""


def test_a_script_in_a_prompt() -> None:
    assert script_in(PROMPT) == [
        (Say("Hello"),),
        (Say("One moment."), Call("look_up_order", {"order": 7})),
        (Call("end_call", {}),),
        (Wait(1500), Fail("server_error")),
        (Error("rate_limit_exceeded"),),
        (Stall(),),
        (Close(1011),),
        (Drop(),),
        (Hold(3000),),
        (Expire(),),
    ]


def test_a_prompt_without_a_script() -> None:
    assert script_in('Be friendly.\n```json\n[{"say": "Hello"}]\n```') is None


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("{", "not JSON"),
        ('{"say": "Hello"}', "not a list"),
        ("[7]", r"\[0\]"),
        ('[{"say": "Hello"}, [{"say": 7}]]', r"\[1\]\[0\]"),
        ('[{"say": "Hello", "loud": true}]', r"\[0\]"),
        ('[{"call": "x", "arguments": "y"}]', r"\[0\]"),
        ('[{"close": 7}]', r"\[0\]"),
        ('[{"shout": "Hello"}]', "use say, call"),
    ],
)
def test_a_script_that_cannot_be_used(block: str, why: str) -> None:
    with pytest.raises(ScriptError, match=why):
        script_in(f"```sandbox\n{block}\n```")
