"""What text from outside may hold: one rule, wherever it comes in.

PostgreSQL stores no NUL, UTF-8 has no lone surrogates, and of the control characters only the tab
and the line breaks belong to what people write. Everything else passes unchanged: emoji, scripts
that run from right to left, combining marks. What can be refused is refused, with the character
that is wrong; what must not be lost, as a call, is cleaned.
"""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError

# Regular expressions of ECMAScript and of Python alike.
_CONTROLS = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"
_BREAKS = r"\t\n\r\u2028\u2029"
_SURROGATES = r"\ud800-\udfff"
# What a text and a line are, for the API's description. There surrogates are halves of emoji.
TEXT = f"^[^{_CONTROLS}]*$"
LINE = f"^[^{_CONTROLS}{_BREAKS}]*$"

_IN_NO_TEXT = re.compile(f"[{_CONTROLS}{_SURROGATES}]")
_IN_NO_LINE = re.compile(f"[{_CONTROLS}{_SURROGATES}{_BREAKS}]")


def text_problem(text: str) -> str | None:
    """Say in a sentence what a text may not hold; None if there is nothing. It may have lines."""
    return _problem(_IN_NO_TEXT, text)


def line_problem(text: str) -> str | None:
    """As :func:`text_problem`, of a text that is a single line."""
    return _problem(_IN_NO_LINE, text)


def validate_line(text: str) -> None:
    """Raise Django's ``ValidationError`` for what :func:`line_problem` finds."""
    if problem := line_problem(text):
        raise ValidationError(problem, code="characters")


def cleaned_text(text: str) -> str:
    """Return the text without what no text may hold."""
    return _IN_NO_TEXT.sub("", text)


def cleaned_line(text: str) -> str:
    """Return the text without what a single line may not hold."""
    return _IN_NO_LINE.sub("", text)


def cleaned_json(value: Any) -> Any:
    """Return JSON with each of its strings cleaned. It is ours, and not nested deeply."""
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
        return f"Leave out control characters, such as the U+{ord(found[0]):04X} in it."
    return "Use one line, without tabs and line breaks."
