"""Going through many items so that one that fails keeps no other from its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from django.db import connection, transaction

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=str | int)


def each_alone(
    ids: Iterable[T], do: Callable[[T], object], *, what: str, back_off: Callable[[T], object]
) -> int:
    """Do it to each in a transaction of its own; return to how many it was done.

    ``do`` returns whether there was something to do. What fails is logged with its id and handed to
    ``back_off``, which sees to it that the next sweep begins with others. A database that is gone
    is no item's fault: then the error goes on to the caller.

    :param what: the item and what is done, for the log.
    """
    count = 0
    for each in ids:
        try:
            with transaction.atomic():
                count += bool(do(each))
        except Exception as error:
            if not connection.in_atomic_block and not connection.is_usable():
                raise
            log.error("sweep_item_failed", what=what, id=each, error=type(error).__name__)
            back_off(each)
    return count
