"""A subscription's status: how payments change it, how it ends, and when time changes it."""

from __future__ import annotations

from typing import Any

from sandbox.payments.business import clock, invoicing
from sandbox.payments.business.periods import period_of
from sandbox.payments.models import Steering, StripeObject
from sandbox.payments.objects import change

LIVE = ("active", "past_due", "unpaid", "incomplete")


def update(subscription: StripeObject, *events: str, **changes: Any) -> None:
    """Change the subscription, and schedule its next change by time."""
    subscription.refresh_from_db(fields=["body"])
    after = {**subscription.body, **changes}
    change(subscription, *events, due_at=_due_at(after), **changes)


def invoice_paid(subscription: StripeObject, invoice: StripeObject) -> None:
    """Reactivate a subscription whose newest invoice is paid; older ones do not matter."""
    is_waiting = subscription["status"] in ("incomplete", "past_due", "unpaid")
    if is_waiting and not _newer_open(subscription, invoice):
        _set_status(subscription, "active")


def invoice_not_paid(subscription: StripeObject, *, is_given_up: bool) -> None:
    """Make a subscription past due, and end it after the last retry."""
    status = subscription["status"]
    if status not in ("active", "past_due"):
        return
    if status != "past_due":
        _set_status(subscription, "past_due")
    if not is_given_up:
        return
    steering = Steering.objects.filter(pk=subscription.customer_id).first() or Steering()
    match steering.dunning_end:
        case Steering.DunningEnd.CANCELED:
            end(subscription, "payment_failed")
        case Steering.DunningEnd.UNPAID:
            _set_status(subscription, "unpaid")


def end(subscription: StripeObject, reason: str) -> None:
    """Cancel the subscription: its open invoices stay open, and are no longer collected."""
    now = clock.now(subscription.customer_id)
    for invoice in invoicing.unpaid_of(subscription):
        invoicing.stop_collecting(invoice)
    update(
        subscription,
        "customer.subscription.deleted",
        status="canceled",
        canceled_at=subscription["canceled_at"] or now,
        cancellation_details=subscription["cancellation_details"] | {"reason": reason},
        ended_at=now,
    )


def _set_status(subscription: StripeObject, status: str) -> None:
    update(subscription, "customer.subscription.updated", status=status)


def _newer_open(subscription: StripeObject, invoice: StripeObject) -> bool:
    unpaid = invoicing.unpaid_of(subscription)
    return any(each.serial > invoice.serial and each["status"] == "open" for each in unpaid)


def _due_at(subscription: dict[str, Any]) -> int | None:
    """Return when time next changes the subscription."""
    if subscription["status"] not in ("active", "past_due", "unpaid"):
        return None
    end, until = period_of(subscription).end, subscription["cancel_at"]
    return end if until is None else min(end, int(until))
