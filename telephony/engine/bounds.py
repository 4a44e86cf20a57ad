"""What texts and JSON from outside are held to, whoever sent them."""

from __future__ import annotations

import re
from typing import Any

# Of a list or an object within lists and objects. Encoders recurse, and so does whoever reads it.
DEEPEST = 32
# Of an error that is written into the timeline, sent to onError or shown (characters).
LONGEST_ERROR = 4_000

_CONTAINERS = (dict, list)
# What XML 1.0 has no place for, and so TwiML has not. NUL is among it, which PostgreSQL refuses.
_UNSTORABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_storable(text: str) -> bool:
    """Whether XML and PostgreSQL can hold it: no control characters but tab and line break."""
    return _UNSTORABLE.search(text) is None


def clipped(text: object, limit: int = LONGEST_ERROR) -> str:
    """Return a text of somebody else's as it may be kept: at most ``limit`` characters of it.

    What cannot be stored becomes U+FFFD; what is no text becomes an empty one.
    """
    if not isinstance(text, str):
        return ""
    kept = text if len(text) <= limit else f"{text[: max(0, limit - 1)]}…"
    return _UNSTORABLE.sub("\ufffd", kept)


def sentence(text: str) -> str:
    """Return somebody's words with one full stop at their end, whether or not they had one."""
    return f"{text.rstrip(' .')}."


def is_deeper_than(value: Any, levels: int = DEEPEST) -> bool:
    """Whether decoded JSON has more lists and objects within each other. It does not recurse."""
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
