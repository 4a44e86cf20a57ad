"""Keyset pagination of a model with ``created_at``, newest first.

Every page costs the same wherever it is, nothing is counted, and new rows do not shift pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from django.db.models import Model, Q, QuerySet

from core.ids import SHAPE
from core.replica import listed

Row = TypeVar("Row", bound=Model)

# The columns of a list's order, the newest first: a time and an id. A list can be ordered by copies
# of a row's own that another index has.
Order = tuple[str, str]
BY_TIME: Order = ("created_at", "pk")

# A cursor: microseconds since 1970, and an id.
CURSOR = re.compile(rf"[0-9]{{1,16}}-{SHAPE.pattern}")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A row's position in the list; as text, see :data:`CURSOR`."""

    created_at: datetime
    id: str

    @classmethod
    def of(cls, row: Any) -> Cursor:
        return cls(row.created_at, row.pk)

    @classmethod
    def read(cls, text: str) -> Cursor | None:
        """Parse a cursor; return None if it is invalid."""
        if not CURSOR.fullmatch(text):
            return None
        microseconds, _, id = text.partition("-")
        seconds, rest = divmod(int(microseconds), 1_000_000)
        return cls(datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest), id)

    def __str__(self) -> str:
        at = self.created_at.replace(microsecond=0)
        return f"{round(at.timestamp())}{self.created_at.microsecond:06}-{self.id}"

    def older(self, by: Order) -> Q:
        return self._beyond(by, "lt")

    def newer(self, by: Order) -> Q:
        return self._beyond(by, "gt")

    def _beyond(self, by: Order, comparison: str) -> Q:
        at, id = by
        # The first condition is the one that the index can use.
        return Q(**{f"{at}__{comparison}e": self.created_at}) & (
            Q(**{f"{at}__{comparison}": self.created_at}) | Q(**{f"{id}__{comparison}": self.id})
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """``before`` is the cursor of the newer page, ``after`` of the older one; "" for none."""

    rows: list[Row]
    before: str
    after: str


def page_of(
    found: QuerySet[Row],
    *,
    size: int,
    before: Cursor | None,
    after: Cursor | None,
    by: Order = BY_TIME,
) -> Page[Row]:
    """Return the page next to a cursor, or the first one. One query, which reads an extra row."""
    if before is not None:
        rows = _read(found.filter(before.newer(by)).order_by(*by)[: size + 1])
        has_newer, has_older = len(rows) > size, True
        rows = rows[:size][::-1]
    else:
        older = found.filter(after.older(by)) if after is not None else found
        rows = _read(older.order_by(*newest_first(by))[: size + 1])
        has_newer, has_older = after is not None, len(rows) > size
        rows = rows[:size]
    return Page(
        rows,
        before=str(Cursor.of(rows[0])) if rows and has_newer else "",
        after=str(Cursor.of(rows[-1])) if rows and has_older else "",
    )


def _read(rows: QuerySet[Row]) -> list[Row]:
    return listed(lambda database: list(rows.using(database)))


def newest_first(by: Order) -> list[str]:
    return [f"-{name}" for name in by]


def batches(found: QuerySet[Row], *, size: int, by: Order = BY_TIME) -> Iterator[list[Row]]:
    """Yield all rows in batches, newest first, one query each. One batch is in memory at a time."""
    after: Cursor | None = None
    while True:
        page = page_of(found, size=size, before=None, after=after, by=by)
        if page.rows:
            yield page.rows
        if not page.after:
            return
        after = Cursor.of(page.rows[-1])
