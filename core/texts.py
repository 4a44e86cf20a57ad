"""The characters allowed in text from outside: one rule for every input.

PostgreSQL stores no NUL, UTF-8 has no lone surrogates, and the only control characters that people
write are tabs and line breaks. Everything else passes unchanged: emoji, right-to-left scripts,
combining marks. Invalid input is rejected, and the error names the character. Input that must not
be lost, such as a call, is cleaned instead.
"""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError

# Regular expressions of ECMAScript and of Python alike.
_CONTROLS = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"
_BREAKS = r"\t\n\r\u2028\u2029"
_SURROGATES = r"\ud800-\udfff"
# Patterns for the API's description. In ECMAScript, surrogates are halves of emoji.
TEXT = f"^[^{_CONTROLS}]*$"
LINE = f"^[^{_CONTROLS}{_BREAKS}]*$"

_IN_NO_TEXT = re.compile(f"[{_CONTROLS}{_SURROGATES}]")
_IN_NO_LINE = re.compile(f"[{_CONTROLS}{_SURROGATES}{_BREAKS}]")


def text_problem(text: str) -> str | None:
    """Return a sentence on what is wrong with a text, which may have several lines, or None."""
    return _problem(_IN_NO_TEXT, text)


def line_problem(text: str) -> str | None:
    """Return a sentence on what is wrong with a single line of text, or None."""
    return _problem(_IN_NO_LINE, text)


def validate_line(text: str) -> None:
    """Raise Django's ``ValidationError`` for what :func:`line_problem` finds."""
    if problem := line_problem(text):
        raise ValidationError(problem, code="characters")


def cleaned_text(text: str) -> str:
    """Return the text without forbidden characters."""
    return _IN_NO_TEXT.sub("", text)


def cleaned_line(text: str) -> str:
    """Return the text without the characters that a single line must not have."""
    return _IN_NO_LINE.sub("", text)


def cleaned_json(value: Any) -> Any:
    """Return JSON with each of its strings cleaned. It must not be nested deeply."""
    if isinstance(value, str):
        return cleaned_text(value)
    if isinstance(value, dict):
        return {cleaned_json(name): cleaned_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned_json(inner) for inner in value]
    return value


def _problem(forbidden: re.Pattern[str], text: str) -> str | None:
    found = forbidden.search(text)
    if found is None:
        return None
    if _IN_NO_TEXT.match(found[0]):
        return f"Remove control characters, such as U+{ord(found[0]):04X}."
    return "Use one line, without tabs and line breaks."
