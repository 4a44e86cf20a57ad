"""JSON that others send: decoded within bounds, and beside the event loop if it is much."""

from __future__ import annotations

import asyncio
import json
import math
from codecs import BOM_UTF8
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import orjson

from telephony.engine.bounds import DEEPEST

P = ParamSpec("P")
R = TypeVar("R")

# Bytes that are read so quickly that a thread would not be worth it.
LARGE = 16 * 1024
# The decoder holds the interpreter until it is done, in whatever thread. Text costs it next to
# nothing, lists and objects do: so many, some 5 ms.
MOST_CONTAINERS = 25_000
MOST_MEMBERS = 50_000

# One thread: several would take turns with the event loop, which would wait for each of them.
_thread = ThreadPoolExecutor(1, thread_name_prefix="bounded-json")


class NotUsable(ValueError):
    """This is not JSON, or too much of it; the message goes on after "something that"."""


def decoded(body: bytes) -> Any:
    """Return what the JSON says; raise :class:`NotUsable`.

    Some servers put a byte order mark before it (RFC 8259, section 8.1, lets us pass over it).
    """
    if len(body) > LARGE:
        _look_at(body)
    try:
        return orjson.loads(body.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError as error:
        is_deep = error.msg.startswith("depth limit")
        why = f"is nested more than {DEEPEST} deep" if is_deep else "is not JSON"
        raise NotUsable(why) from None


def decoded_leniently(body: bytes) -> Any:
    """Return what :func:`decoded` does, or would if JSON could say it; raise :class:`NotUsable`.

    A number that is none becomes None, and half of a surrogate pair, as of an emoji that was cut
    in two, becomes "?".
    """
    if len(body) > LARGE:
        _look_at(body)
    try:
        return decoded(body)
    except NotUsable as error:
        try:
            value = json.loads(body, parse_constant=_finite, parse_float=_finite)
            return decoded(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError):
            raise error from None


def _finite(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


def _look_at(body: bytes) -> None:
    """Raise :class:`NotUsable` for what would take long; brackets and colons in texts count too."""
    if body.count(b"[") + body.count(b"{") > MOST_CONTAINERS:
        raise NotUsable(f"has more than {MOST_CONTAINERS:,} lists and objects")
    if body.count(b":") > MOST_MEMBERS:
        raise NotUsable(f"has more than {MOST_MEMBERS:,} members of objects")


async def beside_the_loop(
    size: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Return what the function makes of ``size`` bytes of somebody's: in a thread, if that is much.

    What it raises would keep all that it has looked at in memory: let it return its failures.
    """
    if size <= LARGE:
        return function(*args, **kwargs)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_thread, lambda: function(*args, **kwargs))
