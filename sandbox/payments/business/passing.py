"""The passing of time: does what is due for a customer, in the order of its time."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import F, OuterRef, Subquery
from django.db.models.functions import Coalesce

from sandbox.payments.business import checkouts, clock, collecting, invoicing, subscribing
from sandbox.payments.models import Steering, StripeObject
from sandbox.payments.objects import writing
from sandbox.payments.wire.errors import Refusal


def turn(customer_id: str, to: int) -> None:
    """Advance a customer's clock; everything due until then happens at its own time."""
    with writing():
        if to < clock.now(customer_id):
            raise Refusal("A clock can only be turned forward.")
        while (thing := _next(customer_id, to)) is not None:
            _happen(thing)
        clock.set_to(customer_id, to)


def next_due(customer_id: str) -> StripeObject | None:
    """Return the customer's object with the earliest due time."""
    found = StripeObject.objects.filter(customer_id=customer_id, due_at__isnull=False)
    return found.order_by("due_at", "serial").first()


def catch_up() -> None:
    """Do what has become due for any customer in the meantime."""
    ahead = Steering.objects.filter(pk=OuterRef("customer_id")).values("ahead_s")
    due = (
        StripeObject.objects.filter(due_at__isnull=False)
        .annotate(now=Coalesce(Subquery(ahead), 0) + clock.real())
        .filter(due_at__lte=F("now"))
    )
    for customer_id in due.values_list("customer_id", flat=True).distinct():
        let_pass(customer_id)


def let_pass(customer_id: str) -> None:
    """Do what has become due for a customer."""
    with writing():
        while (thing := _next(customer_id, clock.now(customer_id))) is not None:
            _happen(thing)


def _next(customer_id: str, until: int) -> StripeObject | None:
    found = StripeObject.objects.filter(customer_id=customer_id, due_at__lte=until)
    return found.order_by("due_at", "serial").first()


def _happen(thing: StripeObject) -> None:
    """Do what is due, with the customer's clock stopped at the due time."""
    due_at = thing.due_at or 0
    with clock.standing(thing.customer_id, due_at):
        _HAPPENINGS[thing.kind](thing)
    thing.refresh_from_db(fields=["due_at"])
    if thing.due_at is not None and thing.due_at <= due_at:
        raise RuntimeError(f"{thing.id} would be due for ever.")


def _invoice_due(invoice: StripeObject) -> None:
    if invoice["status"] == "draft":
        invoicing.finalize(invoice)
    collecting.collect(invoice)


_HAPPENINGS: dict[str, Callable[[StripeObject], None]] = {
    "checkout.session": checkouts.expire,
    "invoice": _invoice_due,
    "subscription": subscribing.period_over,
}
