"""The model's own behavior, when no script controls it.

It greets, hangs up, transfers and presses keys when it is asked to, calls the tool whose name the
caller used, reports a tool's result, and otherwise repeats what it understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.model.arguments import PHONE, arguments_for
from sandbox.model.script import Call, Say, Turn

_EXACTLY = "saying exactly this"
_ORDER = re.compile(r"\s*(?:now\s+|please\s+)?(?:greet|say|tell|ask|speak)\b", re.IGNORECASE)
_GOODBYE = re.compile(r"\b(?:good)?bye\b", re.IGNORECASE)
_TRANSFER = re.compile(r"\b(?:transfer|human)\b", re.IGNORECASE)
_PRESS = re.compile(r"\bpress\s+([0-9*#A-Dw][0-9*#A-Dw ]*)", re.IGNORECASE)
# A typed note that ends with the keys that the caller pressed.
_KEYS_PRESSED = re.compile(r"\[[^\]]*?([0-9*#A-D]+)\s*\]")
# Words in a tool's name that say little about its purpose.
_COMMON = frozenset({"get", "set", "look", "find", "check", "book", "make", "create", "with"})
MOST_REPEATED_WORDS = 12

Tool = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The input of a response. ``said`` and ``results`` are new since the last response."""

    instructions: str = ""
    said: str = ""
    results: Sequence[str] = ()
    tools: Sequence[Tool] = ()
    tool_choice: str | Mapping[str, Any] = "auto"
    is_first: bool = False

    @property
    def usable_tools(self) -> dict[str, Tool]:
        tools = {tool["name"]: tool for tool in self.tools}
        match self.tool_choice:
            case "none":
                return {}
            case {"name": wanted}:
                return {wanted: tools[wanted]} if wanted in tools else {}
        return tools

    @property
    def must_call(self) -> bool:
        return self.tool_choice == "required" or not isinstance(self.tool_choice, str)


def exact_words(instructions: str) -> str | None:
    """Return the quoted text that the instructions want said, or None."""
    _, asked, rest = instructions.partition(_EXACTLY)
    return _quoted(rest) if asked else None


def is_order_to_speak(text: str) -> bool:
    """Return True if the model is to speak now; other instructions only say how."""
    return _ORDER.match(text) is not None or exact_words(text) is not None


def ordered_words(order: str) -> str | None:
    """Return the quoted text that the order wants said, or None if the words are free."""
    return exact_words(order) or _quoted(order)


def _quoted(text: str) -> str | None:
    """Return the first text in double quotes, with JSON's escapes."""
    quote = text.find('"')
    if quote < 0:
        return None
    try:
        return str(json.JSONDecoder().raw_decode(text, quote)[0])
    except ValueError:
        return None


def reply(prompt: Prompt) -> Turn:
    """Return the words to say and the tool to call."""
    words = exact_words(prompt.instructions)
    if words is not None:
        return (Say(words),)
    if prompt.results:
        told = " ".join(filter(None, map(_report, prompt.results)))
        return (Say(told),) if told else ()
    if keys := _KEYS_PRESSED.search(prompt.said):
        return (Say(f"You pressed {keys[1]}."),)
    if call := _call(prompt):
        return call
    if _GOODBYE.search(prompt.said):
        return (Say("Goodbye."),)
    return (Say(_answer(prompt)),)


def _call(prompt: Prompt) -> Turn | None:
    tools = prompt.usable_tools
    said = prompt.said
    if "end_call" in tools and _GOODBYE.search(said):
        return Say("Goodbye."), Call("end_call", {})
    if "transfer_call" in tools and _TRANSFER.search(said):
        return Say("I will put you through."), _transfer(tools["transfer_call"], prompt)
    if "send_dtmf" in tools and (keys := _PRESS.search(said)):
        return (Call("send_dtmf", {"digits": keys[1].replace(" ", "")}),)
    for name, tool in tools.items():
        if prompt.must_call or _names(said, name):
            return (Call(name, arguments_for(tool, said)),)
    return None


def _transfer(tool: Tool, prompt: Prompt) -> Call:
    """Transfer to the number that was said, or else to one in the instructions."""
    said = prompt.said
    if not PHONE.search(said) and (known := PHONE.search(prompt.instructions)):
        said = f"{said} {known[0]}"
    return Call("transfer_call", arguments_for(tool, said))


def _names(said: str, tool: str) -> bool:
    """Return True if the caller says the words that distinguish the tool's name from others."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", tool).replace("_", " ").replace("-", " ")
    words = parts.lower().split()
    telling = [word for word in words if len(word) > 3 and word not in _COMMON] or words
    heard = {word.removesuffix("s") for word in re.findall(r"[a-z]+", said.lower())}
    return all(word.removesuffix("s") in heard for word in telling)


def _report(result: str) -> str:
    """Return what to say of a result; "" if it asks for words that have been said."""
    try:
        value = json.loads(result)
    except ValueError:
        value = result
    if isinstance(value, dict) and str(value.get("next")).startswith("Unless"):
        return ""
    if isinstance(value, dict) and value.keys() == {"error"}:
        return f"I am sorry, that did not work: {_in_words(value['error'])}"
    return f"The result is: {_in_words(value).rstrip('.')}."


def _in_words(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {_in_words(entry)}" for name, entry in value.items())
        case list():
            return ", ".join(map(_in_words, value))
        case str():
            return value
    return json.dumps(value)


def _answer(prompt: Prompt) -> str:
    words = prompt.said.rstrip(".!?").split()
    if not words:
        return "Hello, how can I help you?" if prompt.is_first else "Are you still there?"
    if len(words) > MOST_REPEATED_WORDS:
        words = [*words[:MOST_REPEATED_WORDS], "and so on"]
    return f"I understood: {' '.join(words)}. What else can I do for you?"
