"""Controls for the delivery of events, and for requests.

Rules control future events (``set_rule``, ``hold``); functions act on waiting ones (``deliver``,
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
    """Set the rule for events of a type, or for all without a rule of their own.

    :param settings: ``is_held``, ``copies`` (0 drops), ``delay_s``, ``order``; others keep the
        values without a rule.
    """
    rule = DeliveryRule(event_type=event_type, **settings)
    rule.save()
    return rule


def reset() -> None:
    """Deliver events normally from now on, and let all requests succeed."""
    DeliveryRule.objects.all().delete()
    Fault.objects.all().delete()


def hold(event_type: str = EVERY) -> None:
    """Hold events."""
    set_rule(event_type, is_held=True)


@transaction.atomic
def release() -> int:
    """Deliver held events, and hold no more; return how many deliveries that are."""
    DeliveryRule.objects.filter(is_held=True).delete()
    held = list(Delivery.objects.filter(state=Delivery.State.HELD))
    for each in held:
        each.state, each.due_at = Delivery.State.PENDING, timezone.now()
    Delivery.objects.bulk_update(held, ["state", "due_at"])
    deliver_pending(held)
    return len(held)


def waiting(*event_types: str) -> list[Delivery]:
    """Return held and pending deliveries, in the order of their events."""
    found = Delivery.objects.filter(state__in=_WAITING)
    if event_types:
        found = found.filter(event__body__type__in=event_types)
    return list(found.select_related("event", "endpoint").order_by("id"))


def deliver(*event_types: str, order: Arrange = list, times: int = 1) -> list[Delivery]:
    """Deliver what waits now, in this process and over HTTP; return the deliveries in order.

    :param order: gets the waiting deliveries, and returns those to send: in any order, some twice,
        some not at all (those keep waiting).
    :param times: how often each is sent in a row.
    """
    chosen = list(order(waiting(*event_types)))
    for chosen_one in chosen:
        for _ in range(times):
            delivery.send(chosen_one)
    return chosen


def drop(*event_types: str) -> int:
    """Drop what waits; return how many deliveries that are."""
    ids = [each.pk for each in waiting(*event_types)]
    return Delivery.objects.filter(pk__in=ids).update(state=Delivery.State.DROPPED)


def send_again(chosen: Delivery) -> None:
    """Deliver an event once more, whatever its state."""
    with transaction.atomic():
        again = Delivery.objects.create(event=chosen.event, endpoint=chosen.endpoint)
        deliver_pending([again])


def fail(kind: Fault.Kind, *, method: str = "", path: str = "/", times: int | None = None) -> Fault:
    """Make requests fail whose path has this prefix, a number of times or until ``reset``."""
    return Fault.objects.create(kind=kind, method=method, path=path, times_left=times)


def send_soon(chosen: Delivery) -> None:
    """Deliver an event that waits, was dropped or was given up."""
    with transaction.atomic():
        chosen.state, chosen.due_at = Delivery.State.PENDING, timezone.now()
        chosen.save(update_fields=["state", "due_at"])
        deliver_pending([chosen])
