"""A subscription's status: how payments change it, how it ends, and when it changes by itself."""

from __future__ import annotations

from typing import Any

from sandbox.payments.business import clock, invoicing
from sandbox.payments.business.periods import period_of
from sandbox.payments.models import Steering, StripeObject
from sandbox.payments.objects import change

# How long the first payment may take.
INCOMPLETE_S = 23 * clock.HOUR

LIVE = ("active", "past_due", "trialing", "unpaid", "paused", "incomplete")


def set_status(subscription: StripeObject, status: str, *events: str, **changes: Any) -> None:
    """Change the status and whatever changes with it."""
    update(subscription, *(events or ("customer.subscription.updated",)), status=status, **changes)


def update(subscription: StripeObject, *events: str, **changes: Any) -> None:
    """Change the subscription, and be there when time changes it next."""
    subscription.refresh_from_db(fields=["body"])
    after = {**subscription.body, **changes}
    change(subscription, *events, due_at=_due_at(after), **changes)


def invoice_paid(subscription: StripeObject, invoice: StripeObject) -> None:
    """Bring a subscription back whose newest invoice is paid; older ones do not matter."""
    is_waiting = subscription["status"] in ("incomplete", "past_due", "unpaid")
    if is_waiting and not _newer_open(subscription, invoice):
        set_status(subscription, "active")


def invoice_not_paid(subscription: StripeObject, *, is_given_up: bool) -> None:
    """Let a subscription be past due, and end it when no more is tried."""
    status = subscription["status"]
    if status not in ("active", "past_due", "trialing"):
        return
    if status != "past_due":
        set_status(subscription, "past_due")
    if not is_given_up:
        return
    steering = Steering.objects.filter(pk=subscription.customer_id).first() or Steering()
    match steering.dunning_end:
        case Steering.DunningEnd.CANCELED:
            end(subscription, "payment_failed")
        case Steering.DunningEnd.UNPAID:
            set_status(subscription, "unpaid")


def end(subscription: StripeObject, reason: str, **details: Any) -> None:
    """Cancel the subscription: what is open stays open, and is not collected any more.

    :param details: what the customer said about it (``comment``, ``feedback``).
    """
    now = clock.now(subscription.customer_id)
    for invoice in invoicing.unpaid_of(subscription):
        invoicing.stop_collecting(invoice)
    set_status(
        subscription,
        "canceled",
        "customer.subscription.deleted",
        canceled_at=subscription["canceled_at"] or now,
        cancellation_details={
            **subscription["cancellation_details"],
            **details,
            "reason": reason,
        },
        ended_at=now,
    )


def expire(subscription: StripeObject) -> None:
    """End a subscription whose first payment never came."""
    for invoice in invoicing.unpaid_of(subscription):
        invoicing.void(invoice)
    now = clock.now(subscription.customer_id)
    set_status(subscription, "incomplete_expired", ended_at=now)


def _newer_open(subscription: StripeObject, invoice: StripeObject) -> bool:
    unpaid = invoicing.unpaid_of(subscription)
    return any(each.serial > invoice.serial and each["status"] == "open" for each in unpaid)


def _due_at(subscription: dict[str, Any]) -> int | None:
    """Return when time does something to the subscription."""
    match subscription["status"]:
        case "incomplete":
            return int(subscription["created"]) + INCOMPLETE_S
        case "trialing":
            moments = [subscription["trial_end"], subscription["cancel_at"]]
        case "active" | "past_due" | "unpaid":
            moments = [period_of(subscription).end, subscription["cancel_at"]]
        case _:
            return None
    return min(moment for moment in moments if moment is not None)
