"""Arguments for a tool call, taken from the caller's words as the tool's schema requires."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PHONE = re.compile(r"\+[1-9][0-9 ]{5,18}[0-9]")
_QUOTED = re.compile(r'"([^"]+)"')
_NUMBER = re.compile(r"(?<![\w:+-])-?[0-9]+(?:\.[0-9]+)?(?![\w:-])")
# A word with a digit in it: an order number, a booking code.
_CODE = re.compile(r"\b(?=[A-Za-z0-9-]*[0-9])[A-Za-z0-9-]+\b")
_NO = re.compile(r"\b(?:no|not|don't|without)\b", re.IGNORECASE)
# The pattern for an argument whose name contains the word.
_HINTS = {
    "mail": re.compile(r"[^\s@]+@[^\s@]+\.[A-Za-z]+"),
    "phone": PHONE,
    "time": re.compile(
        r"\b[0-9]{1,2}:[0-9]{2}(?:\s*[ap]m)?\b|\b[0-9]{1,2}\s*[ap]m\b", re.IGNORECASE
    ),
    "da": re.compile(  # date, day
        r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b"
        r"|\b(?:today|tonight|tomorrow|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b",
        re.IGNORECASE,
    ),
    "name": re.compile(r"\b(?:for|name is|I am|I'm|called)\s+([A-Z][a-z]+)"),
}


class _Words:
    """The caller's words; each number, date or quotation is used for one argument only."""

    def __init__(self, said: str) -> None:
        self.said = said
        self._left = said

    def take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.search(self._left)
        if match is None:
            return None
        self._left = f"{self._left[: match.start()]} {self._left[match.end() :]}"
        return match[match.re.groups]


def arguments_for(tool: Mapping[str, Any], said: str) -> dict[str, Any]:
    """Return arguments for what the schema requires, and for what else was said."""
    schema = tool.get("parameters") or {}
    required = schema.get("required", ())
    words = _Words(said)
    arguments: dict[str, Any] = {}
    for name, kind in schema.get("properties", {}).items():
        value = _value(name, kind, words)
        if value is None and name in required:
            value = _any_value(kind, said)
        if value is not None:
            arguments[name] = value
    return arguments


def _value(name: str, schema: Mapping[str, Any], words: _Words) -> Any:
    """Return the caller's value for this argument, or None."""
    if choices := schema.get("enum"):
        said = words.said.lower()
        return next((choice for choice in choices if str(choice).lower() in said), None)
    match schema.get("type"):
        case "integer":
            number = words.take(_NUMBER)
            return None if number is None else int(float(number))
        case "number":
            number = words.take(_NUMBER)
            return None if number is None else float(number)
        case "boolean":
            return not _NO.search(words.said)
        case "array":
            entry = _value(name, schema.get("items") or {"type": "string"}, words)
            return None if entry is None else [entry]
        case "string":
            return _text(name.lower(), words)
    return None


def _text(name: str, words: _Words) -> str | None:
    for part, pattern in _HINTS.items():
        if part in name:
            return words.take(pattern) or words.take(_QUOTED)
    if phone := words.take(PHONE):
        return phone.replace(" ", "")
    return words.take(_QUOTED) or words.take(_CODE)


def _any_value(schema: Mapping[str, Any], said: str) -> Any:
    """Return a valid value for an argument that is required and was not said."""
    if choices := schema.get("enum"):
        return choices[0]
    match schema.get("type"):
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return []
        case "object":
            return {}
    return said
