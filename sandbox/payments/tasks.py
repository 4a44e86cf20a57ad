"""The jobs of the payments sandbox."""

from __future__ import annotations

from django.utils import timezone
from procrastinate.contrib.django import app

from core.queue import lanes
from sandbox.payments import delivery
from sandbox.payments.business import passing
from sandbox.payments.models import KeptAnswer
from sandbox.payments.wire.answering import KEEP_ANSWERS


@app.task(queue=lanes.MONEY)
def deliver_events(endpoint: int) -> None:
    """Deliver what is due to an endpoint; one job at a time keeps the order."""
    delivery.deliver_due(endpoint)


@app.periodic(cron="* * * * *")
@app.task(queue=lanes.MONEY, queueing_lock="sandbox-time")
def let_time_pass(timestamp: int) -> None:
    """Do what time does: renewals, invoices, retries, expired checkouts."""
    passing.catch_up()
    KeptAnswer.objects.filter(answered_at__lt=timezone.now() - KEEP_ANSWERS).delete()
