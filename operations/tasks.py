"""The jobs of this app. Their arguments are ids only."""

from __future__ import annotations

from procrastinate.contrib.django import app

from accounts.actors import Actor, ActorKind
from accounts.models import Account
from core.queue import lanes
from operations.impersonation import Ending, visit_end
from operations.incidents import incidents_forget


@app.task(queue=lanes.UPKEEP)
def end_visit(account_id: str, visit_id: str, operator_id: str) -> None:
    """Log the end of a visit whose operator just left it."""
    email = Account.objects.filter(pk=operator_id).values_list("email", flat=True).first() or ""
    operator = Actor(ActorKind.OPERATOR, operator_id, email)
    visit_end(account_id=account_id, visit_id=visit_id, operator=operator, how=Ending.TIME_LIMIT)


@app.periodic(cron="33 * * * *")
@app.task(queue=lanes.UPKEEP, queueing_lock="forget_operators_incidents")
def forget_incidents(timestamp: int) -> None:
    incidents_forget()
