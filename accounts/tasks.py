"""The jobs of this app."""

from __future__ import annotations

from procrastinate.contrib.django import app

from accounts.models import AttemptCount

BATCH = 10_000


@app.periodic(cron="*/10 * * * *")
@app.task(queueing_lock="forget_attempts")
def forget_attempts(timestamp: int) -> None:
    """Delete what was counted in windows that are over."""
    while AttemptCount.objects.forget_ended(at_most=BATCH) == BATCH:
        pass
