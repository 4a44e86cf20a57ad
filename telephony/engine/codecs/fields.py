"""Reads JSON objects from models, whatever they contain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Tokens or seconds in one event. OpenAI never sends more, and its cost would not fit the column.
_MOST = 10_000_000
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

    def tokens(self, name: str) -> int:
        return int(self.amount(name))
