from __future__ import annotations

import pytest

from telephony.callbacks.schedule import retry_delay

SECONDS = [5, 300, 1800, 7200, 18_000, 36_000, 36_000]


@pytest.mark.parametrize(("attempts", "seconds"), [*enumerate(SECONDS, start=1)])
def test_delays_follow_standard_webhooks(attempts: int, seconds: int) -> None:
    delay = retry_delay(attempts, None)
    assert delay is not None
    assert seconds <= delay.total_seconds() <= seconds * 1.1


@pytest.mark.parametrize("retry_after", [None, 60])
def test_the_eighth_failure_is_the_last(retry_after: float | None) -> None:
    assert retry_delay(8, retry_after) is None


def test_retries_of_many_deliveries_are_spread_out() -> None:
    assert len({retry_delay(4, None) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("attempts", "retry_after", "least", "most"),
    [
        (1, 0, 5, 5.5),
        (1, 60, 60, 60),
        (2, 60, 300, 330),
        (7, 10**9, 86_400, 86_400),
        (7, float("inf"), 86_400, 86_400),
    ],
)
def test_retry_after_can_only_extend_the_wait(
    attempts: int, retry_after: float, least: float, most: float
) -> None:
    delay = retry_delay(attempts, retry_after)
    assert delay is not None
    assert least <= delay.total_seconds() <= most
