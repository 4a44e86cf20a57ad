"""Reads JSON objects from models, whatever they contain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from telephony.engine.bounds import LONGEST_NAME, clipped

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
# Tokens or seconds in one event. OpenAI never sends more, and its cost would not fit the column.
_MOST = 10_000_000
# The year 2286, in Unix seconds.
_LAST_TIME = 10_000_000_000
# Characters of an id; OpenAI's have about 30.
LONGEST_ID = 256


class Fields:
    """A JSON object from the model. A field of the wrong type reads as empty."""

    def __init__(self, value: object) -> None:
        self._fields: Mapping[str, Any] = value if isinstance(value, Mapping) else {}

    def has(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def raw(self, name: str) -> Any:
        return self._fields.get(name)

    def text(self, name: str) -> str:
        value = self._fields.get(name)
        return value if isinstance(value, str) else ""

    def id(self, name: str) -> str:
        """Return an id; "" if it is missing, invalid or too long to store."""
        value = self.text(name)
        return value if len(value) <= LONGEST_ID else ""

    def base64(self, name: str) -> str:
        """Return a text in base64; "" if it is missing or invalid."""
        value = self.text(name)
        return value if _BASE64.fullmatch(value) else ""

    def object(self, name: str) -> Fields:
        return Fields(self._fields.get(name))

    def objects(self, name: str) -> list[Fields]:
        value = self._fields.get(name)
        return [Fields(entry) for entry in value] if isinstance(value, list) else []

    def amount(self, name: str) -> float:
        """Return an amount to charge for; 0 if it is missing or invalid."""
        value = self._fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return 0
        return value if 0 <= value <= _MOST else 0

    def unix_time(self, name: str) -> float | None:
        """Return a time in Unix seconds; None if it is missing or invalid."""
        value = self._fields.get(name)
        is_time = isinstance(value, int | float) and 0 < value <= _LAST_TIME
        return value if is_time and not isinstance(value, bool) else None

    def tokens(self, name: str) -> int:
        return int(self.amount(name))


def code_and_message(error: Fields) -> tuple[str, str]:
    """Return code and message.

    An OpenAI account without credit has several codes and one type, so use the type. Replace the
    message about an invalid key, since it quotes parts of the key.
    """
    code = clipped(error.text("code") or error.text("type"), LONGEST_NAME) or "unknown"
    if error.text("type") == "insufficient_quota":
        code = "insufficient_quota"
    if code == "invalid_api_key":
        return code, "OpenAI does not accept the openaiApiKey."
    return code, clipped(error.text("message"))
