"""JSON from others: decoded within limits, and in a thread if it is long."""

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

# Bytes that decode so fast that a thread is not worth it.
LARGE = 16 * 1024
# The decoder holds the GIL until it is done, in whatever thread. Text costs next to nothing, but
# lists and objects do: this many take about 5 ms.
MOST_CONTAINERS = 25_000
MOST_MEMBERS = 50_000

# One thread: several would compete with the event loop for the GIL.
_thread = ThreadPoolExecutor(1, thread_name_prefix="bounded-json")


class NotUsable(ValueError):
    """The text is not JSON, or exceeds a limit. The message completes "something that …"."""


def decoded(body: bytes) -> Any:
    """Return the decoded JSON; raise :class:`NotUsable`.

    Some servers put a byte order mark before it, which RFC 8259, section 8.1, allows us to ignore.
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
    """Decode as :func:`decoded` does, but replace what JSON cannot represent.

    NaN and infinities become None. Half of a surrogate pair, as of an emoji that was cut in two,
    becomes "?". Raises :class:`NotUsable`.
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
    """Raise :class:`NotUsable` for input that is slow to decode. Brackets and colons in texts
    count.
    """
    if body.count(b"[") + body.count(b"{") > MOST_CONTAINERS:
        raise NotUsable(f"has more than {MOST_CONTAINERS:,} lists and objects")
    if body.count(b":") > MOST_MEMBERS:
        raise NotUsable(f"has more than {MOST_MEMBERS:,} members of objects")


async def beside_the_loop(
    size: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Return the function's result for ``size`` bytes of input, from a thread if that is much.

    An exception's traceback would keep the input in memory: let the function return its failures.
    """
    if size <= LARGE:
        return function(*args, **kwargs)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_thread, lambda: function(*args, **kwargs))
