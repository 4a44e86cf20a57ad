"""Limits of texts and JSON from outside, whoever sent them."""

from __future__ import annotations

import re
from typing import Any

# Levels of lists and objects within each other. Encoders and decoders recurse.
DEEPEST = 32
# Characters of an error in the timeline, in onError or on a page.
LONGEST_ERROR = 4_000
# Characters of OpenAI's error codes and of other names.
LONGEST_NAME = 64

_CONTAINERS = (dict, list)
# Characters that XML 1.0 cannot contain, and so neither can TwiML. PostgreSQL refuses NUL.
_UNSTORABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_storable(text: str) -> bool:
    """Return True if XML and PostgreSQL can store the text.

    Of the control characters, they can store only tabs and line breaks.
    """
    return _UNSTORABLE.search(text) is None


def clipped(text: object, limit: int = LONGEST_ERROR) -> str:
    """Return a text from outside in a form that can be stored: at most ``limit`` characters.

    Characters that cannot be stored become U+FFFD. Anything but a text becomes "".
    """
    if not isinstance(text, str):
        return ""
    kept = text if len(text) <= limit else f"{text[: max(0, limit - 1)]}…"
    return _UNSTORABLE.sub("\ufffd", kept)


def sentence(text: str) -> str:
    """Return the text with one full stop at its end, whether or not it had one."""
    return f"{text.rstrip(' .')}."


def is_deeper_than(value: Any, levels: int = DEEPEST) -> bool:
    """Return True if decoded JSON is nested more than ``levels`` deep. It does not recurse."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(levels):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, _CONTAINERS)
        ]
        if not level:
            return False
    return bool(level)
