"""Warns of models that OpenAI turns off soon.

A call with such a model leaves a :class:`ModelUse` of its number. While there is one, the dashboard
warns, and the owner is told 90, 30 and 7 days before the end: once for each model and account, in
the transaction that stores it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min
from django.utils import timezone

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from core.sweeps import each_alone
from telephony import notices
from telephony.engine.models import MODELS, Retirement, model_of, retirement_of
from telephony.models import Call, Incident, ModelUse, PhoneNumber

# Days before the end.
TOLD_AT = (90, 30, 7)
# Without a call for so long, a number no longer uses a model.
LASTS = timedelta(days=7)
# How exactly the last use is known. Each call of a busy number would write the row.
_WITHIN = timedelta(hours=1)
# The most numbers that a message names.
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class InUse:
    """A retirement, how many numbers of an account it concerns, and the first of them."""

    retirement: Retirement
    count: int
    number: str

    @property
    def others(self) -> int:
        return self.count - 1

    @property
    def days(self) -> int:
        """In how many days, until today, the numbers have used the model."""
        return LASTS.days


def model_used(call: Call, name: str, *, at: datetime) -> None:
    """Record that a model spoke in a call; only of one whose end is announced."""
    model = model_of(name)
    if model is None or model.ends is None:
        return
    number = PhoneNumber.objects.filter(account=call.account_id, phone_number=call.numbers[0])
    uses = ModelUse.objects.filter(account=call.account_id, model=model.name)
    if uses.filter(number__in=number.values("pk"), used_at__gt=at - _WITHIN).exists():
        return
    for id in number.values_list("pk", flat=True):
        use = ModelUse(account_id=call.account_id, number_id=id, model=model.name, used_at=at)
        ModelUse.objects.bulk_create(
            [use],
            update_conflicts=True,
            unique_fields=["account", "model", "number"],
            update_fields=["used_at"],
        )


def in_use(
    account: Account, number: PhoneNumber | None = None, *, now: datetime | None = None
) -> list[InUse]:
    """Return the models to warn an account of, the one that ends first, first."""
    now = now or timezone.now()
    retiring = _retiring(now)
    uses = _recent(retiring, now).filter(account=account)
    if number is not None:
        uses = uses.filter(number=number)
    counts = uses.values_list("model").annotate(Count("number"), Min("number__phone_number"))
    found = [InUse(retiring[model], count, first) for model, count, first in counts]
    return sorted(found, key=lambda each: (each.retirement.ends, each.retirement.model))


def retirements_tell(now: datetime) -> None:
    """Tell the owners of numbers that use a model which ends soon, and delete what is outdated."""
    used = _recent({name for name, each in _retiring(now).items() if not each.is_over}, now)
    each_alone(
        list(used.order_by("account_id").values_list("account_id", flat=True).distinct()),
        lambda id: _tell(id, now),
        what="warning of a model that ends",
        back_off=lambda id: None,  # tomorrow's sweep tries again
    )
    ModelUse.objects.filter(used_at__lte=now - LASTS).delete()


def _tell(account_id: str, now: datetime) -> bool:
    account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
    ending = (each.retirement for each in in_use(account, now=now))
    told = [_tell_of(account, each, now) for each in ending if not each.is_over]
    return any(told)


def _tell_of(account: Account, retirement: Retirement, now: datetime) -> bool:
    """Tell the owner of a model; return False if they were told at this time before its end."""
    days = (retirement.ends - now.date()).days
    told_at = min(each for each in TOLD_AT if days <= each)
    kind, subject = Incident.Kind.MODEL, f"{retirement.model} {retirement.ends} {told_at}"
    if Incident.objects.filter(account=account, kind=kind, subject=subject).exists():
        return False
    uses = _recent([retirement.model], now).filter(account=account)
    numbers = list(uses.values_list("number__phone_number", flat=True).order_by("number_id"))
    facts = {
        "model": retirement.model,
        "day": retirement.day,
        "instead": retirement.instead,
        "numbers": numbers[:MOST_NAMED],
        "more": len(numbers[MOST_NAMED:]),
    }
    times = dict.fromkeys(("began_at", "last_at", "told_at", "ended_at"), now)
    incident = Incident.objects.create(
        account=account, kind=kind, subject=subject, facts=facts, **times
    )
    notices.tell(incident, notices.Event.FAILED)
    return True


def _retiring(now: datetime) -> dict[str, Retirement]:
    """Return the models that end soon, or have ended. OpenAI's dates are taken as days in UTC."""
    found = (retirement_of(name, now.date()) for name in MODELS)
    return {each.model: each for each in found if each is not None}


def _recent(names: Collection[str], now: datetime) -> OwnedQuerySet[ModelUse]:
    return ModelUse.objects.filter(model__in=names, used_at__gt=now - LASTS)
