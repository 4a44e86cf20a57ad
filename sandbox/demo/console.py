"""Text on a terminal, or in a log: headings, a timeline, JSON."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from typing import Any, TextIO

_WIDTH = 100
# A line of the timeline begins with the seconds and the actor.
_WHO_AT = 12
_WHAT_AT = 24
_LONGEST_TEXT = 70
_DEEPEST = 3
_DEEP = "{…}"

_BOLD, _DIM, _GREEN, _RED, _CYAN = "1", "2", "32", "31", "36"


class Console:
    """Writes to a stream; in colour on a terminal, unless ``NO_COLOR`` is set."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_colour = stream.isatty() and not os.environ.get("NO_COLOR")

    def heading(self, text: str) -> None:
        self._write(f"\n{self._in(_BOLD, text)}")

    def gap(self) -> None:
        self._write("")

    def text(self, text: str, *, indent: int = 2) -> None:
        for line in textwrap.wrap(text, _WIDTH - indent):
            self._write(" " * indent + line)

    def row(self, name: str, text: str) -> None:
        """Write a name and its value on one line."""
        self._write(f"  {name:<10}{text}")

    def command(self, *words: str) -> None:
        """Write a command to copy, on one line."""
        self._write(f"  {shlex.join(words)}")

    def step(self, action: str, outcome: str) -> None:
        """Write an action and its outcome."""
        self._write(f"  {action:<28}{outcome}")

    def moment(self, seconds: float, who: str, text: str) -> None:
        """Write an entry of the timeline, wrapped with a hanging indent."""
        first, *others = textwrap.wrap(text, _WIDTH - _WHAT_AT) or [""]
        who = self._in(_CYAN, f"{who:<{_WHAT_AT - _WHO_AT}}")
        self._write(f"  {seconds:6.2f} s  {who}{first}")
        for line in others:
            self._write(" " * _WHAT_AT + line)

    def json(self, value: Any, *, indent: int = _WHO_AT) -> None:
        for line in pretty(value, _WIDTH - indent).splitlines():
            self._write(" " * indent + self._in(_DIM, line))

    def check(self, text: str, *, is_fine: bool) -> None:
        verdict = self._in(_GREEN, "ok    ") if is_fine else self._in(_RED, "FAILED")
        self._write(f"  {verdict}  {text}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def _in(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._has_colour else text


def pretty(value: Any, width: int) -> str:
    """Return readable JSON: values that fit are on one line, long or deep ones are cut."""
    return _laid_out(_cut(value), width).replace(f'"{_DEEP}"', _DEEP)


def _laid_out(value: Any, width: int, *, taken: int = 0) -> str:
    """Format the value; ``taken`` characters of the first line are used already."""
    flat = json.dumps(value, ensure_ascii=False)
    if taken + len(flat) <= width or not isinstance(value, dict | list):
        return flat
    if isinstance(value, dict):
        opening, closing = "{}"
        names = [f"{json.dumps(name, ensure_ascii=False)}: " for name in value]
        entries = list(value.values())
    else:
        opening, closing = "[]"
        names, entries = [""] * len(value), value
    lines = [
        textwrap.indent(name + _laid_out(entry, width - 2, taken=len(name)), "  ")
        for name, entry in zip(names, entries, strict=True)
    ]
    return "\n".join([opening, ",\n".join(lines), closing])


def _cut(value: Any, level: int = 0) -> Any:
    match value:
        case str() if len(value) > _LONGEST_TEXT:
            return f"{value[:_LONGEST_TEXT]}…"
        case dict() | list() if value and level == _DEEPEST:
            return _DEEP
        case dict():
            return {name: _cut(entry, level + 1) for name, entry in value.items()}
        case list():
            return [_cut(entry, level + 1) for entry in value]
    return value
