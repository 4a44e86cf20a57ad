"""The mistakes in a backend's answer to onCallStart, field by field.

An answer may be a megabyte of mistakes, so only the first are kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from telephony.engine.bounds import clipped

# Mistakes that are kept. The others are counted.
MOST_PROBLEMS = 20


class PlanError(ValueError):
    """The answer cannot be used.

    ``fields`` has the mistakes by field; ``more`` is how many others there are.
    """

    def __init__(self, fields: Mapping[str, list[str]], more: int = 0) -> None:
        self.fields = dict(fields)
        self.more = more
        told = [f"{name}: {' '.join(why)}" for name, why in fields.items()]
        super().__init__(clipped("; ".join([*told, f"and {more} more."] if more else told)))


class Problems:
    """The first mistakes in an answer, by field, and how many there are."""

    def __init__(self) -> None:
        self._count = 0
        self._fields: dict[str, list[str]] = {}

    def add(self, name: str, why: str) -> None:
        self._count += 1
        if self._count <= MOST_PROBLEMS:
            self._fields.setdefault(name, []).append(why)

    def require_none(self) -> None:
        """Raise :class:`PlanError` if there is a problem."""
        if self._count:
            raise PlanError(self._fields, max(0, self._count - MOST_PROBLEMS))
