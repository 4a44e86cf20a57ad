"""A subscription's life: it begins, renews month by month, and is cancelled."""

from __future__ import annotations

from typing import Any

from sandbox.payments.bodies import blank
from sandbox.payments.business import clock, collecting, invoicing, standing
from sandbox.payments.business.lines import lines_for
from sandbox.payments.business.periods import Period, month_from, period_of
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject, StripeObjectQuerySet
from sandbox.payments.objects import create
from sandbox.payments.wire.errors import Refusal
from sandbox.payments.wire.lists import whole_list

Prices = list[tuple[StripeObject, int | None]]
"""Each with how many of it; a metered one has no number."""


def live_of(customer_id: str) -> StripeObjectQuerySet:
    """Return a customer's subscriptions that have not ended, newest first."""
    found = StripeObject.objects.of("subscription").filter(customer_id=customer_id)
    return found.filter(body__status__in=standing.LIVE).order_by("-serial")


def begin(customer_id: str, prices: Prices, **fields: Any) -> StripeObject:
    """Create a subscription and pay its first invoice; raise Refusal if the card is declined.

    :param fields: ``default_payment_method`` and ``metadata``.
    """
    now = clock.now(customer_id)
    id = new_id("subscription")
    first = month_from(now, anchor=now)
    subscription = create(
        "subscription",
        "customer.subscription.created",
        id=id,
        customer_id=customer_id,
        billing_cycle_anchor=now,
        billing_mode={
            "flexible": {"proration_discounts": "included"},
            "type": "flexible",
            "updated_at": now,
        },
        currency=prices[0][0]["currency"],
        customer=customer_id,
        items=_items(id, prices, first, now),
        start_date=now,
        **fields,
    )
    lines = lines_for(subscription, ahead=first, behind=None)
    invoice = invoicing.draft(subscription, "subscription_create", lines, period=Period(now, now))
    invoicing.finalize(invoice)
    if decline := collecting.collect(invoice):
        raise decline.refusal()
    subscription.refresh_from_db()
    return subscription


def renew(subscription: StripeObject) -> None:
    """Begin the next period, whose invoice bills the usage of the previous one.

    The invoice is not collected while the previous one is unpaid.
    """
    over = period_of(subscription.body)
    ahead = month_from(over.end, anchor=subscription["billing_cycle_anchor"])
    items = subscription["items"]
    moved = {"current_period_start": ahead.start, "current_period_end": ahead.end}
    items = items | {"data": [item | moved for item in items["data"]]}
    standing.update(subscription, "customer.subscription.updated", items=items)
    is_unpaid = subscription["status"] == "unpaid"
    due_at = clock.now(subscription.customer_id) + invoicing.DRAFT_S
    invoice = invoicing.draft(
        subscription,
        "subscription_cycle",
        lines_for(subscription, ahead=ahead, behind=over),
        period=over,
        behind=over,
        due_at=None if is_unpaid else due_at,
    )
    if is_unpaid:
        invoicing.stop_collecting(invoice)


def cancel(subscription: StripeObject, *, invoice_now: bool = False) -> None:
    """End the subscription now; bill the usage that is on no invoice yet, if requested."""
    _require_live(subscription)
    if invoice_now:
        # Include the usage of this very second.
        _bill_the_rest(subscription, until=clock.now(subscription.customer_id) + 1)
        subscription.refresh_from_db()
    standing.end(subscription, "cancellation_requested")


def cancel_at_period_end(subscription: StripeObject, *, wanted: bool) -> None:
    """End the subscription with its paid period, or undo that."""
    _require_live(subscription)
    reason = "cancellation_requested" if wanted else None
    standing.update(
        subscription,
        "customer.subscription.updated",
        cancel_at_period_end=wanted,
        cancel_at=period_of(subscription.body).end if wanted else None,
        canceled_at=clock.now(subscription.customer_id) if wanted else None,
        cancellation_details=subscription["cancellation_details"] | {"reason": reason},
    )


def period_over(subscription: StripeObject) -> None:
    """Do what is due for the subscription on its customer's clock."""
    until = subscription["cancel_at"]
    if until is None or until > clock.now(subscription.customer_id):
        renew(subscription)
        return
    _bill_the_rest(subscription, until=until)
    subscription.refresh_from_db()
    standing.end(subscription, "cancellation_requested")


def preview_for(customer_id: str) -> dict[str, Any]:
    """Preview the customer's next invoice as if the period ended now; raise Refusal if none is due.

    A subscription that ends with its period gets one of its usage alone.
    """
    subscription = live_of(customer_id).first()
    if subscription is None:
        raise Refusal(
            f"No upcoming invoices for customer: {customer_id}",
            status=404,
            code="invoice_upcoming_none",
        )
    over = period_of(subscription.body)
    ahead = month_from(over.end, anchor=subscription["billing_cycle_anchor"])
    is_last = subscription["cancel_at_period_end"]
    lines = lines_for(subscription, ahead=None if is_last else ahead, behind=over)
    return invoicing.preview(subscription, lines, over)


def _bill_the_rest(subscription: StripeObject, *, until: int) -> None:
    """Bill the usage of the period up to now, before the subscription ends."""
    behind = Period(period_of(subscription.body).start, until)
    lines = lines_for(subscription, ahead=None, behind=behind)
    if any(line["amount"] for line in lines):
        invoice = invoicing.draft(subscription, "subscription_cycle", lines, period=behind)
        invoicing.finalize(invoice)
        collecting.collect(invoice)


def _require_live(subscription: StripeObject) -> None:
    if subscription["status"] not in standing.LIVE:
        raise Refusal(
            f"No such subscription: '{subscription.id}'",
            status=404,
            code="resource_missing",
            param="id",
        )


def _items(id: str, prices: Prices, period: Period, now: int) -> dict[str, Any]:
    bodies = []
    for price, quantity in prices:
        item = blank("subscription_item") | {
            "id": new_id("subscription_item"),
            "object": "subscription_item",
            "created": now,
            "current_period_end": period.end,
            "current_period_start": period.start,
            "plan": _plan(price.body),
            "price": price.body,
            "subscription": id,
        }
        if quantity is not None:
            item["quantity"] = quantity
        bodies.append(item)
    url = f"/v1/subscription_items?subscription={id}"
    return whole_list(bodies, url) | {"total_count": len(bodies)}


def _plan(price: dict[str, Any]) -> dict[str, Any]:
    """Return a price in Stripe's old format (plan): items still have both."""
    same = ("id", "created", "currency", "product")
    return {
        **blank("plan"),
        **{name: price[name] for name in same},
        **price["recurring"],
        "object": "plan",
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
    }
