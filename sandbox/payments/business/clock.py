"""A clock for each customer, which can be advanced. Everything else uses the real clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sandbox.payments.models import Steering

HOUR = 3_600
DAY = 24 * HOUR

_remembered: ContextVar[dict[str, int] | None] = ContextVar("remembered clocks", default=None)
_standing: ContextVar[dict[str, int] | None] = ContextVar("standing clocks", default=None)


def real() -> int:
    return int(time.time())


def now(customer_id: str = "") -> int:
    """Return the time on a customer's clock."""
    at = (_standing.get() or {}).get(customer_id)
    return real() + ahead_s(customer_id) if at is None else at


def ahead_s(customer_id: str) -> int:
    """Return how far a customer's clock is ahead of real time, in seconds."""
    if not customer_id:
        return 0
    known = _remembered.get()
    if known is None:
        return _ahead_s(customer_id)
    if customer_id not in known:
        known[customer_id] = _ahead_s(customer_id)
    return known[customer_id]


def _ahead_s(customer_id: str) -> int:
    ahead = Steering.objects.filter(pk=customer_id).values_list("ahead_s", flat=True).first()
    return ahead or 0


def set_to(customer_id: str, at: int) -> None:
    """Set a customer's clock, without what would happen until then (``passing.turn``)."""
    ahead_s = at - real()
    Steering.objects.update_or_create(customer_id=customer_id, defaults={"ahead_s": ahead_s})
    if (known := _remembered.get()) is not None:
        known[customer_id] = ahead_s


@contextmanager
def remembered() -> Iterator[None]:
    """Read each clock only once inside of this."""
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


@contextmanager
def standing(customer_id: str, at: int) -> Iterator[None]:
    """Stop a customer's clock inside of this."""
    token = _standing.set({**(_standing.get() or {}), customer_id: at})
    try:
        yield
    finally:
        _standing.reset(token)
