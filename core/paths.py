"""The parts of a request's path that a log line may show: never a token that grants access."""

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
    """Return the path with ``…`` for each part that is neither a word of our URLs nor an id.

    It uses the words of all URLs, not the view that matched: a truncated link, or one with a
    suffix, matches no view, but its token is still valid.
    """
    return "/".join(part if _may_be_shown(part) else HIDDEN for part in path.split("/"))


def hidden_parts(path: str) -> list[str]:
    """Return the parts of the path that are hidden."""
    return [part for part in path.split("/") if not _may_be_shown(part)]


def _may_be_shown(part: str) -> bool:
    return not part or part in _words() or is_id(part) or _SID.fullmatch(part) is not None


@cache
def _words() -> frozenset[str]:
    """Return the literal words of our URL patterns."""
    routes = _routes(get_resolver())
    pieces = (piece.strip("^$?\\") for route in routes for piece in route.split("/"))
    return frozenset(piece for piece in pieces if _WORD.fullmatch(piece))


def _routes(resolver: URLResolver) -> Iterator[str]:
    for pattern in resolver.url_patterns:
        yield str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern)
