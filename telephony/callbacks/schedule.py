"""When a callback that failed is tried again."""

from __future__ import annotations

import random
from datetime import timedelta

# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
RETRY_DELAYS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=10),
)
# What failed together does not come back together.
JITTER = 0.1
# No schedule is over sooner, so that whatever was held back has waited for as long as any other.
AT_LEAST = sum(RETRY_DELAYS, timedelta()) * (1 + JITTER)
LONGEST_RETRY_AFTER = timedelta(hours=24)


def retry_delay(attempts: int, retry_after: float | None) -> timedelta | None:
    """Return how long to wait after so many failed attempts, or None to give up.

    ``retry_after``, in seconds, only lengthens it, to a day at most.
    """
    if attempts > len(RETRY_DELAYS):
        return None
    delay = RETRY_DELAYS[attempts - 1] * (1 + random.uniform(0, JITTER))  # noqa: S311 (no secret)
    return max(delay, asked_delay(retry_after))


def asked_delay(retry_after: float | None) -> timedelta:
    """Return how long a backend asked to be left alone: a day at most."""
    return timedelta(seconds=min(retry_after or 0.0, LONGEST_RETRY_AFTER.total_seconds()))
