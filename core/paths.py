"""What of a request's path a log line may have: never what lets its reader in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from django.urls import URLResolver, get_resolver

from core.ids import is_id

HIDDEN = "…"

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_SID = re.compile(r"(?:CA|MZ)[0-9a-f]{32}")


def shown_path(path: str) -> str:
    """Return the path with ``…`` for each part that is neither a word of ours nor an id.

    It goes by the words of all addresses, not by the view that was found: a link that was cut or
    has something behind it leads to no view, and its token still holds.
    """
    return "/".join(part if _may_be_shown(part) else HIDDEN for part in path.split("/"))


def hidden_parts(path: str) -> list[str]:
    """Return the parts of the path that are not shown."""
    return [part for part in path.split("/") if not _may_be_shown(part)]


def _may_be_shown(part: str) -> bool:
    return not part or part in _words() or is_id(part) or _SID.fullmatch(part) is not None


@cache
def _words() -> frozenset[str]:
    """Return what is written out in the product's addresses."""
    routes = _routes(get_resolver())
    pieces = (piece.strip("^$?\\") for route in routes for piece in route.split("/"))
    return frozenset(piece for piece in pieces if _WORD.fullmatch(piece))


def _routes(resolver: URLResolver) -> Iterator[str]:
    for pattern in resolver.url_patterns:
        yield str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern)
