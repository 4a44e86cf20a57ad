"""The tables of the guides that follow from the code. ``manage.py write_docs`` writes them.

In the Markdown, a table lies between ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from telephony.callbacks.configuration import CONFIGURATION, REFUSAL, Answer, Field
from telephony.engine.codes import (
    MODEL_CODES_MEANING,
    MODEL_CODES_REMEDY,
    MODEL_PREFIX,
    EndedReason,
    ErrorCode,
    EventKind,
)

_TABLE = re.compile(r"<!-- table: (?P<name>\S+) -->\n.*?<!-- end of table -->\n", re.DOTALL)
_MARKER = re.compile(r"<!-- (?:table: \S+|end of table) -->\n\n?")

Row = tuple[str, ...]


def with_tables(text: str) -> str:
    """Return a guide's Markdown with each of its tables as the code has it now."""
    return _TABLE.sub(_between_markers, text)


def without_markers(text: str) -> str:
    """Return a guide's Markdown as its readers have it."""
    return _MARKER.sub("", text)


def _between_markers(found: re.Match[str]) -> str:
    header, *rows = TABLES[found["name"]]()
    lines = [_line(header), "|---" * len(header) + "|", *map(_line, rows)]
    return "\n".join(
        [f"<!-- table: {found['name']} -->", "", *lines, "", "<!-- end of table -->", ""]
    )


def _line(row: Row) -> str:
    return f"| {' | '.join(row)} |"


def _fields(answer: Answer) -> Iterable[Row]:
    yield "field", "type", "default", "what it is"
    for field in answer.fields:
        yield f"`{field.name}`", field.kind.type, _default(field), field.in_words()


def _default(field: Field) -> str:
    if field.is_required:
        return "required"
    return f"`{field.default}`" if field.default else "none"


def _ended_reasons() -> Iterable[Row]:
    yield "value", "why the call ended"
    for reason in EndedReason:
        yield f"`{reason}`", reason.meaning


def _error_codes() -> Iterable[Row]:
    yield "code", "what happened", "what to do"
    for code in ErrorCode:
        yield f"`{code}`", code.meaning, code.remedy
    yield f"`{MODEL_PREFIX}…`", MODEL_CODES_MEANING, MODEL_CODES_REMEDY


def _event_kinds() -> Iterable[Row]:
    yield "`kind`", "what happened", "`detail`"
    for kind in EventKind:
        yield f"`{kind}`", f"{kind.meaning}.", kind.detail


# By name, rows of Markdown: the header first.
TABLES: Mapping[str, Callable[[], Iterable[Row]]] = {
    "call-configuration": partial(_fields, CONFIGURATION),
    "call-rejection": partial(_fields, REFUSAL),
    "ended-reasons": _ended_reasons,
    "error-codes": _error_codes,
    "event-kinds": _event_kinds,
}
