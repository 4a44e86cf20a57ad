"""A span of a trace, before it is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto


class Kind(Enum):
    INTERNAL = auto()
    SERVER = auto()
    CLIENT = auto()


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time. Ids are hexadecimal, times nanoseconds since 1970.

    Attributes without a value ("" or None) are left out.
    """

    name: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    kind: Kind = Kind.INTERNAL
    is_error: bool = False
    attributes: Mapping[str, object] = field(default_factory=dict)
