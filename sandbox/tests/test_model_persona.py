"""The model's own words, and its arguments for a tool."""

from typing import Any

import pytest

from sandbox.model.arguments import arguments_for
from sandbox.model.persona import Prompt, exact_words, reply
from sandbox.model.script import Call, Say
from sandbox.tests.models import function_tool

ORDER = function_tool("look_up_order", order_number="string")
TABLE = function_tool("book_table", guests="integer", day="string", time="string", name="string")
END = {"type": "function", "name": "end_call", "parameters": {"type": "object", "properties": {}}}
TRANSFER = function_tool("transfer_call", to="string")
KEYS = function_tool("send_dtmf", digits="string")
TOOLS = [ORDER, TABLE, END, TRANSFER, KEYS]


def test_it_works() -> None:
    assert reply(Prompt(said="My name is Ada.")) == (
        Say("I understood: My name is Ada. What else can I do for you?"),
    )


def test_a_long_speech_is_not_repeated_to_its_end() -> None:
    [said] = reply(Prompt(said="la " * 20))

    assert said == Say(f"I understood: {'la ' * 12}and so on. What else can I do for you?")


def test_nothing_was_said() -> None:
    assert reply(Prompt(is_first=True)) == (Say("Hello, how can I help you?"),)
    assert reply(Prompt()) == (Say("Are you still there?"),)


@pytest.mark.parametrize(
    ("instructions", "words"),
    [
        ('Greet the caller by saying exactly this, and nothing else: "Hi!"', "Hi!"),
        ('by saying exactly this: "Say \\"ä\\" \\u00e9" and stop', 'Say "ä" é'),
        ("by saying exactly this: Hi", None),
        ('by saying exactly this: "Hi', None),
        ('Say "Hi"', None),
    ],
)
def test_words_that_are_to_be_said_exactly(instructions: str, words: str | None) -> None:
    assert exact_words(instructions) == words


def test_a_greeting_comes_before_everything_else() -> None:
    prompt = Prompt('saying exactly this: "Hi"', said="Goodbye", results=["1"], tools=TOOLS)

    assert reply(prompt) == (Say("Hi"),)


# Tools


@pytest.mark.parametrize(
    ("said", "call"),
    [
        ("Where is my order A-1001?", Call("look_up_order", {"order_number": "A-1001"})),
        ("I have two orders.", Call("look_up_order", {"order_number": "I have two orders."})),
        (
            "A table for 4 tomorrow at 19:30, my name is Ada.",
            Call("book_table", {"guests": 4, "day": "tomorrow", "time": "19:30", "name": "Ada"}),
        ),
        ("Please press 1 2 #", Call("send_dtmf", {"digits": "12#"})),
    ],
)
def test_the_tool_that_was_named_is_called(said: str, call: Call) -> None:
    assert reply(Prompt(said=said, tools=TOOLS)) == (call,)


def test_goodbye_ends_the_call() -> None:
    assert reply(Prompt(said="Thanks, goodbye!", tools=TOOLS)) == (
        Say("Goodbye."),
        Call("end_call", {}),
    )
    assert reply(Prompt(said="Bye bye")) == (Say("Goodbye."),)


@pytest.mark.parametrize(
    ("instructions", "said", "to"),
    [
        ("", "Transfer me to +1 555 987 6543", "+15559876543"),
        ("The office is at +15551234567.", "I want a human", "+15551234567"),
        ("", "I want a human", "I want a human"),
    ],
)
def test_a_caller_is_put_through(instructions: str, said: str, to: str) -> None:
    assert reply(Prompt(instructions, said, tools=TOOLS)) == (
        Say("I will put you through."),
        Call("transfer_call", {"to": to}),
    )


def test_tools_that_are_not_there_are_not_called() -> None:
    for said in ("I want a human", "Press 123", "Where is my order 7?"):
        [say] = reply(Prompt(said=said))
        assert isinstance(say, Say)


def test_tool_choice() -> None:
    said = "Where is my order 7?"
    one = {"type": "function", "name": "end_call"}
    unknown = {"type": "function", "name": "unknown"}

    assert isinstance(reply(Prompt(said=said, tools=TOOLS, tool_choice="none"))[0], Say)
    assert reply(Prompt(said=said, tools=TOOLS, tool_choice=one)) == (Call("end_call", {}),)
    assert isinstance(reply(Prompt(said=said, tools=TOOLS, tool_choice=unknown))[0], Say)
    required = Prompt(said="Hello", tools=[ORDER], tool_choice="required")
    assert reply(required) == (Call("look_up_order", {"order_number": "Hello"}),)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ('"It is on its way."', "The result is: It is on its way."),
        ("not json", "The result is: not json."),
        ('{"status": "sent", "items": [1, 2]}', "The result is: status sent, items 1, 2."),
        ("true", "The result is: true."),
        ('{"error": "It is broken."}', "I am sorry, that did not work: It is broken."),
    ],
)
def test_a_result_is_said(result: str, words: str) -> None:
    assert reply(Prompt(results=[result], tools=TOOLS)) == (Say(words),)


def test_keys_that_were_pressed_are_said() -> None:
    said = "[The caller pressed on the keypad: 12#]"

    assert reply(Prompt(said=said, tools=TOOLS)) == (Say("You pressed 12#."),)


# Arguments


def schema(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"name": "tool", "parameters": {"type": "object", "properties": properties}}


@pytest.mark.parametrize(
    ("kind", "said", "value"),
    [
        ({"type": "integer"}, "there are 12 of us", 12),
        ({"type": "number"}, "it costs 4.50, I think", 4.5),
        ({"type": "boolean"}, "yes please", True),
        ({"type": "boolean"}, "do not do that", False),
        ({"type": "string", "enum": ["small", "large"]}, "a Large one", "large"),
        ({"type": "string"}, 'it says "Fragile" on it', "Fragile"),
        ({"type": "string"}, "call +49 30 123456", "+4930123456"),
        ({"type": "array", "items": {"type": "integer"}}, "number 7", [7]),
        ({"type": "array"}, 'just "one"', ["one"]),
    ],
)
def test_an_argument_is_what_was_said(kind: dict[str, Any], said: str, value: Any) -> None:
    assert arguments_for(schema(argument=kind), said) == {"argument": value}


def test_an_argument_that_was_not_said_is_left_out() -> None:
    kinds: list[dict[str, Any]] = [
        {"type": "integer"},
        {"type": "number"},
        {"type": "string"},
        {"type": "array"},
        {"type": "object"},
        {"enum": ["a1", "b2"]},
    ]
    properties = {f"argument{index}": kind for index, kind in enumerate(kinds)}

    assert arguments_for(schema(**properties), "nothing of the kind") == {}


def test_a_required_argument_is_always_there() -> None:
    tool = schema(
        count={"type": "integer", "minimum": 3},
        sure={"type": "boolean"},
        tags={"type": "array"},
        extra={"type": "object"},
        size={"enum": ["small", "large"]},
        note={"type": "string"},
    )
    tool["parameters"]["required"] = list(tool["parameters"]["properties"])

    assert arguments_for(tool, "hm") == {
        "count": 3,
        "sure": True,
        "tags": [],
        "extra": {},
        "size": "small",
        "note": "hm",
    }


def test_what_was_said_is_used_once() -> None:
    tool = schema(first={"type": "integer"}, second={"type": "integer"})

    assert arguments_for(tool, "4 and 5") == {"first": 4, "second": 5}
    assert arguments_for({"name": "tool"}, "4 and 5") == {}


def test_an_address_is_found_by_the_name_of_its_argument() -> None:
    tool = schema(email={"type": "string"}, phone={"type": "string"}, date={"type": "string"})

    assert arguments_for(tool, "Ada@example.org, +1 555 123 4567, on 2026-12-24") == {
        "email": "Ada@example.org",
        "phone": "+1 555 123 4567",
        "date": "2026-12-24",
    }
