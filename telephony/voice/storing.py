"""Stores what a call in progress can do without: in time, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import structlog

from telephony.db import in_background, in_database

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)

# The caller's socket may stay open until then, in silence.
STORED_WITHIN_S = 5.0


async def stored(
    or_log: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R | None:
    """Run a function that stores something, and return its result.

    If it fails or takes too long, log a warning and return None. It may still have stored it then.

    :param or_log: the name of that warning.
    """
    return await _in_time(or_log, in_database(function, *args, **kwargs))


async def stored_in_background(
    or_log: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> None:
    """Do as :func:`stored`, for what no caller waits for."""
    await _in_time(or_log, in_background(function, *args, **kwargs))


async def _in_time(or_log: str, storing: Coroutine[Any, Any, R]) -> R | None:
    try:
        async with asyncio.timeout(STORED_WITHIN_S):
            return await storing
    except Exception as error:
        log.warning(or_log, error=type(error).__name__)
        return None
