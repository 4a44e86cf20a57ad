"""The retry schedule of failed callbacks."""

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
# Callbacks that failed together must not all be retried together.
JITTER = 0.1
# The longest schedule without Retry-After: deliveries that are held back are given up no sooner.
AT_LEAST = sum(RETRY_DELAYS, timedelta()) * (1 + JITTER)
LONGEST_RETRY_AFTER = timedelta(hours=24)


def retry_delay(attempts: int, retry_after: float | None) -> timedelta | None:
    """Return how long to wait after this number of failed attempts, or None to give up.

    ``retry_after``, in seconds, can only extend the wait, to at most a day.
    """
    if attempts > len(RETRY_DELAYS):
        return None
    delay = RETRY_DELAYS[attempts - 1] * (1 + random.uniform(0, JITTER))  # noqa: S311 (no secret)
    return max(delay, asked_delay(retry_after))


def asked_delay(retry_after: float | None) -> timedelta:
    """Return how long a backend asked us to wait: at most a day."""
    return timedelta(seconds=min(retry_after or 0.0, LONGEST_RETRY_AFTER.total_seconds()))
