"""Processes many items so that one failure does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import structlog
from django.db import connection, transaction

from core.logs import log_scope
from core.outages import is_outage

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=str | int)


def each_alone(
    ids: Iterable[T],
    do: Callable[[T], object],
    *,
    what: str,
    back_off: Callable[[T], object],
    in_transaction: bool = True,
    logged_as: str = "id",
    passes: tuple[type[Exception], ...] = (),
) -> int:
    """Process each item in its own transaction; return how many were done.

    ``do`` returns True if there was something to do. Log lines about an item have its id, and what
    ``do`` binds to them ends with the item. A failure is logged and passed to ``back_off``, which
    lets the next sweep begin with other items. If the database is gone, that is no item's fault,
    and the error is raised.

    :param what: the item and the action, for the log.
    :param in_transaction: False if ``do`` waits for another service, and so must not hold one.
    :param logged_as: the name of the id in log lines.
    :param passes: errors that concern all items, and are raised.
    """
    count = 0
    for each in ids:
        with log_scope(**{logged_as: each}):
            try:
                with transaction.atomic() if in_transaction else nullcontext():
                    count += bool(do(each))
            except passes:
                raise
            except Exception as error:
                if _is_gone(error):
                    raise
                log.error("sweep_item_failed", what=what, error=type(error).__name__)
                _back_off(each, back_off, what)
    return count


def together_or_alone(ids: Sequence[T], do: Callable[[Sequence[T]], object], *, what: str) -> int:
    """Process items in one transaction or, if that fails, each in its own; return how many were.

    An item that fails is logged with its id and left as it is. Raises if the database is gone.
    """
    try:
        with transaction.atomic():
            do(ids)
        return len(ids)
    except Exception as error:
        if _is_gone(error):
            raise
        log.warning("sweep_falls_back", what=what, count=len(ids), error=type(error).__name__)

    def alone(id: T) -> bool:
        do([id])
        return True

    return each_alone(ids, alone, what=what, back_off=lambda id: None)


def _back_off(item: T, back_off: Callable[[T], object], what: str) -> None:
    try:
        with transaction.atomic():
            back_off(item)
    except Exception as error:
        if _is_gone(error):
            raise
        log.error("sweep_item_not_put_off", what=what, error=type(error).__name__)


def _is_gone(error: Exception) -> bool:
    """Return True if an error means that the database is gone."""
    if connection.in_atomic_block:
        return False
    if connection.connection is None:  # it was returned, or never opened
        return is_outage(error)
    return not connection.is_usable()
