"""The jobs of this app. Their arguments are ids only."""

from __future__ import annotations

from procrastinate.contrib.django import app

from billing.tasks import UNTIL_STRIPE_IS_BACK
from core.queue import lanes
from operations.closing import account_end


@app.task(queue=lanes.MONEY, retry=UNTIL_STRIPE_IS_BACK)
def end_account(account_id: str) -> None:
    account_end(account_id=account_id)
