"""Going through many items so that one that fails keeps no other from its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TypeVar

import structlog
from django.db import connection, transaction

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
    passes: tuple[type[Exception], ...] = (),
) -> int:
    """Do it to each in a transaction of its own; return to how many it was done.

    ``do`` returns whether there was something to do. What fails is logged with its id and handed to
    ``back_off``, which sees to it that the next sweep begins with others. A database that is gone
    is no item's fault: then the error goes on to the caller.

    :param what: the item and what is done, for the log.
    :param in_transaction: False for what waits for somebody else, and so must not hold one.
    :param passes: errors that say something of all items: they go on to the caller.
    """
    count = 0
    for each in ids:
        try:
            with transaction.atomic() if in_transaction else nullcontext():
                count += bool(do(each))
        except passes:
            raise
        except Exception as error:
            if _is_gone(error):
                raise
            log.error("sweep_item_failed", what=what, id=each, error=type(error).__name__)
            _back_off(each, back_off, what)
    return count


def _back_off(item: T, back_off: Callable[[T], object], what: str) -> None:
    try:
        with transaction.atomic():
            back_off(item)
    except Exception as error:
        if _is_gone(error):
            raise
        log.error("sweep_item_not_put_off", what=what, id=item, error=type(error).__name__)


def _is_gone(error: Exception) -> bool:
    """Whether an error means that there is no database any more."""
    if connection.in_atomic_block:
        return False
    if connection.connection is None:  # it was given back, or never made
        return is_outage(error)
    return not connection.is_usable()
