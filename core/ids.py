"""Opaque identifiers in the shape of a cuid."""

import itertools
import re
import secrets
import time
from datetime import UTC, datetime, timedelta

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
SHAPE = re.compile(r"c[0-9a-z]{24}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_counter = itertools.count()


def new_id() -> str:
    """Return 25 characters: ``c``, milliseconds, a counter, 12 random ones; all in base 36.

    Ids sort by creation time (the counter keeps the order within a millisecond in one process), and
    cannot be guessed: 62 bits are random.
    """
    milliseconds = time.time_ns() // 1_000_000
    return (
        "c"
        + _base36(milliseconds, 8)
        + _base36(next(_counter) % 36**4, 4)
        + _base36(secrets.randbelow(36**12), 12)
    )


def is_id(text: str) -> bool:
    """Return True if the text has the shape of an id, so that others cost no query."""
    return SHAPE.fullmatch(text) is not None


def made_at(id: str) -> datetime:
    """Return when an id was created, to the millisecond, by its creator's clock."""
    return _EPOCH + int(id[1:9], 36) * _MILLISECOND


def first_id_of(moment: datetime) -> str:
    """Return a lower bound of the ids created at that moment or later."""
    return "c" + _base36((moment - _EPOCH) // _MILLISECOND, 8)


def _base36(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, remainder = divmod(number, 36)
        digits = _ALPHABET[remainder] + digits
    return digits
