"""Text that somebody's parser, column, calendar or stack cannot take: the same for every door.

Each is given in the spelling of the door: in an address and a form, in JSON, and as plain text
where a library writes it down (a socket's message, a header).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TypeVar
from urllib.parse import quote

#: Whether some of what is generated is enough: ``bin/test --all`` sets the variable.
IS_SHORT = not os.environ.get("EVERY_POISON")

Door = TypeVar("Door")


@dataclass(frozen=True, slots=True)
class Poison:
    name: str
    text: str
    encoded: str  # as it stands in an address or a form
    json: str  # as it stands in JSON

    def __str__(self) -> str:
        return self.name


def _text(name: str, text: str) -> Poison:
    return Poison(name, text, quote(text, safe=""), json.dumps(text))


def _number(text: str) -> Poison:
    """A number of JSON's, as far as it is one."""
    return Poison(text[:12], text, quote(text, safe=""), text)


POISONS = (
    _text("NUL", "a\0b"),
    _text("escape sequence", "\x1b[31m\x07"),
    _text("C1 control", "a\x85\x9bb"),
    _text("line breaks", "a\r\nX-Injected: b\r\n\r\nc"),
    Poison("lone surrogate", "\N{REPLACEMENT CHARACTER}", "%ED%A0%80", r'"\ud800"'),
    Poison("overlong UTF-8", "\N{REPLACEMENT CHARACTER}", "%C0%80%E0%80%80", '"\\uD800\\u0000"'),
    Poison("percent signs that encode nothing", "%zz%", "%zz%2%", '"%zz%2%"'),
    _text("a written %00", "%00_00\\x00\\u0000"),
    _text("U+FFFF", "\uffff"),
    _text("U+FEFF", "\ufeffa"),
    _text("U+202E", "\u202eabc"),
    _text("U+A7CB", "you@x\ua7cb.com"),
    _text("U+1C89", "you@x\u1c89.com"),
    _text("U+212A", "\u212aim@x.com"),
    _number("1" + "0" * 400),
    _number("1" * 5000),
    _number("-1"),
    _number("1e999"),
    _number("NaN"),
    _text("9999-12-31", "9999-12-31"),
    _text("the end of times", "9999-12-31T23:59:59.999999-23:59"),
    _text("0001-01-01", "0001-01-01"),
    _text("the beginning of times", "0001-01-01T00:00:00+23:59"),
    Poison("deep arrays", "[" * 900 + "]" * 900, "%5B" * 900 + "%5D" * 900, "[" * 900 + "]" * 900),
    Poison("deeper arrays", "[" * 9000, "%5B" * 900, "[" * 90_000 + "]" * 90_000),
    Poison("an object", "{}", "%7B%7D", '{"a": [{"": null}], "id": {}}'),
    _text("100 KB", "x" * 100_000),
    _text("SQL", "' OR 1=1--"),
    _text("a template", "{{7*7}}{% debug %}"),
    _text("a path", "../../../etc/passwd"),
)

# What people write. It is no poison, and passes unchanged wherever any text does.
PEOPLES = (
    "Żółw & Söhne",
    "مخبز الأمل",
    "מאפייה \N{RIGHT-TO-LEFT MARK}(1)",
    "👩‍👩‍👧 Pizza 🍕",
    "e\N{COMBINING ACUTE ACCENT}cole",
    "\N{GOTHIC LETTER FAIHU}\N{MUSICAL SYMBOL G CLEF}",
    "株式会社",
)


def dealt(doors: Iterable[Door]) -> Iterator[tuple[Poison, Door]]:
    """Yield every poison with every door; in a short run, each poison and each door once at least.

    The hundreds of doors are all of a kind: one mechanism guards them. ``EVERY_POISON=1``, which
    ``bin/test --all`` sets, makes it a long run.
    """
    doors = list(doors)
    if not IS_SHORT:
        yield from product(POISONS, doors)
        return
    for number in range(max(len(POISONS), len(doors))):
        yield POISONS[number % len(POISONS)], doors[number % len(doors)]
