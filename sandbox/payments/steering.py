"""Steering what happens to events on their way, and to requests.

By a rule for what comes (``set_rule``, ``hold``), and by hand for what waits (``deliver``,
``drop``). Held events wait until they are released or delivered by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone

from sandbox.payments import delivery
from sandbox.payments.events import EVERY, deliver_pending
from sandbox.payments.models import Delivery, DeliveryRule, Fault

Arrange = Callable[[list[Delivery]], Iterable[Delivery]]

_WAITING = (Delivery.State.HELD, Delivery.State.PENDING)


def set_rule(event_type: str = EVERY, **settings: Any) -> DeliveryRule:
    """Have events of a type, or all that have no rule of their own, treated in another way.

    :param settings: ``is_held``, ``copies`` (0 drops), ``delay_s``, ``order``; what is not given is
        as it is without a rule.
    """
    rule = DeliveryRule(event_type=event_type, **settings)
    rule.save()
    return rule


def reset() -> None:
    """Deliver events as they come from now on, and let all requests pass."""
    DeliveryRule.objects.all().delete()
    Fault.objects.all().delete()


def hold(event_type: str = EVERY) -> None:
    """Keep events back."""
    set_rule(event_type, is_held=True)


@transaction.atomic
def release() -> int:
    """Have what is held delivered, and hold no more; return how many deliveries that are."""
    DeliveryRule.objects.filter(is_held=True).delete()
    held = list(Delivery.objects.filter(state=Delivery.State.HELD))
    for each in held:
        each.state, each.due_at = Delivery.State.PENDING, timezone.now()
    Delivery.objects.bulk_update(held, ["state", "due_at"])
    deliver_pending(held)
    return len(held)


def waiting(*event_types: str) -> list[Delivery]:
    """Return what is held or due at some time, in the order in which it happened."""
    found = Delivery.objects.filter(state__in=_WAITING)
    if event_types:
        found = found.filter(event__body__type__in=event_types)
    return list(found.select_related("event", "endpoint").order_by("id"))


def deliver(*event_types: str, order: Arrange = list, times: int = 1) -> list[Delivery]:
    """Deliver what waits now, in this process and over HTTP; return the deliveries in their order.

    :param order: gets the deliveries that wait, and returns those to send: in any order, some
        twice, some not at all (those are still there afterwards).
    :param times: how often each is sent in a row.
    """
    chosen = list(order(waiting(*event_types)))
    for chosen_one in chosen:
        for _ in range(times):
            delivery.send(chosen_one)
    return chosen


def drop(*event_types: str) -> int:
    """Lose what waits; return how many deliveries that are."""
    ids = [each.pk for each in waiting(*event_types)]
    return Delivery.objects.filter(pk__in=ids).update(state=Delivery.State.DROPPED)


def send_again(chosen: Delivery) -> None:
    """Have an event delivered once more, whatever became of it."""
    with transaction.atomic():
        again = Delivery.objects.create(event=chosen.event, endpoint=chosen.endpoint)
        deliver_pending([again])


def fail(kind: Fault.Kind, *, method: str = "", path: str = "/", times: int | None = None) -> Fault:
    """Have requests fail whose path begins so, so many times or until ``reset``."""
    return Fault.objects.create(kind=kind, method=method, path=path, times_left=times)


def send_soon(chosen: Delivery) -> None:
    """Have an event delivered that waits, was dropped or was given up."""
    with transaction.atomic():
        chosen.state, chosen.due_at = Delivery.State.PENDING, timezone.now()
        chosen.save(update_fields=["state", "due_at"])
        deliver_pending([chosen])
