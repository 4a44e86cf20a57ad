"""A subscription's life: it begins, renews month by month, pauses, and is cancelled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.payments.business import clock, collecting, invoicing, standing
from sandbox.payments.business.cards import Decline
from sandbox.payments.business.lines import lines_for, trial_lines
from sandbox.payments.business.periods import Period, period_from, period_of
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject, StripeObjectQuerySet
from sandbox.payments.objects import create, find
from sandbox.payments.wire.errors import Refusal, not_simulated
from sandbox.payments.wire.lists import whole_list


@dataclass(frozen=True, slots=True)
class Order:
    """What is subscribed to, and how."""

    customer_id: str
    prices: list[tuple[StripeObject, int | None]]
    trial_end: int | None = None
    is_paid_now: bool = True
    fields: dict[str, Any] = field(default_factory=dict)


def live_of(customer_id: str) -> StripeObjectQuerySet:
    """Return a customer's subscriptions that have not ended, newest first."""
    found = StripeObject.objects.of("subscription").filter(customer_id=customer_id)
    return found.filter(body__status__in=standing.LIVE).order_by("-serial")


def begin(order: Order) -> tuple[StripeObject, Decline | None]:
    """Make the subscription and its first invoice, and have that paid; return why it was not.

    It is incomplete until the first payment has come, for 23 hours at most.
    """
    now = clock.now(order.customer_id)
    trial_end = order.trial_end if order.trial_end and order.trial_end > now else None
    id = new_id("subscription")
    first = Period(now, trial_end) if trial_end else _next_period(now, now, order.prices)
    subscription = create(
        "subscription",
        id=id,
        customer_id=order.customer_id,
        **_body(order, now, trial_end),
        items=_items(id, order, first, now),
        status="trialing" if trial_end else "incomplete",
    )
    standing.update(subscription, "customer.subscription.created")
    lines = (
        trial_lines(subscription, first)
        if trial_end
        else lines_for(subscription, ahead=first, behind=None)
    )
    invoice = invoicing.draft(subscription, "subscription_create", lines, period=Period(now, now))
    invoicing.finalize(invoice)
    if invoice["amount_due"] and not order.is_paid_now:
        return subscription, None
    decline = collecting.collect(invoice)
    subscription.refresh_from_db()
    return subscription, decline


def renew(subscription: StripeObject) -> None:
    """Begin the next period; its invoice has what was used in the one that is over."""
    over = period_of(subscription.body)
    was_trial = subscription["status"] == "trialing"
    anchor = over.end if was_trial else subscription["billing_cycle_anchor"]
    ahead = _next_period(over.end, anchor, _prices(subscription))
    changes = {"billing_cycle_anchor": anchor, "items": _moved(subscription, ahead)}
    status = "active" if was_trial else subscription["status"]
    standing.set_status(subscription, status, **changes)
    _bill(subscription, ahead=ahead, behind=None if was_trial else over, over=over)


def end_trial(subscription: StripeObject) -> None:
    """Begin to charge; without a card, pause or end as the trial's settings say."""
    customer = find("customer", subscription.customer_id)
    has_card = (
        subscription["default_payment_method"]
        or customer["invoice_settings"]["default_payment_method"]
    )
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if has_card or behavior == "create_invoice":
        renew(subscription)
    elif behavior == "pause":
        standing.set_status(
            subscription,
            "paused",
            "customer.subscription.updated",
            "customer.subscription.paused",
        )
    else:
        standing.end(subscription, "payment_failed")


def set_trial_end(subscription: StripeObject, at: int) -> None:
    """Have the trial end at another time, or now; raise Refusal when there is none."""
    if subscription["status"] != "trialing":
        raise not_simulated("a trial in the middle of a subscription", param="trial_end")
    period = Period(period_of(subscription.body).start, at)
    standing.update(
        subscription,
        "customer.subscription.updated",
        billing_cycle_anchor=at,
        items=_moved(subscription, period),
        trial_end=at,
    )
    if at <= clock.now(subscription.customer_id):
        end_trial(subscription)


def resume(subscription: StripeObject) -> None:
    """Let a paused subscription go on from now; raise Refusal when it is not paused."""
    if subscription["status"] != "paused":
        raise Refusal("You can only resume a subscription when the status is `paused`.")
    now = clock.now(subscription.customer_id)
    ahead = _next_period(now, now, _prices(subscription))
    standing.set_status(
        subscription,
        "active",
        "customer.subscription.updated",
        "customer.subscription.resumed",
        billing_cycle_anchor=now,
        items=_moved(subscription, ahead),
    )
    _bill(subscription, ahead=ahead, behind=None, over=Period(now, now))


def cancel(subscription: StripeObject, *, invoice_now: bool = False, **details: Any) -> None:
    """End the subscription now; what was used and is on no invoice yet is billed if asked for."""
    _require_live(subscription)
    if invoice_now:
        # What was used in this very second too.
        _bill_the_rest(subscription, until=clock.now(subscription.customer_id) + 1)
        subscription.refresh_from_db()
    standing.end(subscription, "cancellation_requested", **details)


def cancel_at_period_end(subscription: StripeObject, *, wanted: bool, **details: Any) -> None:
    """End the subscription with the period that is paid for, or let it go on after all."""
    _require_live(subscription)
    at = period_of(subscription.body).end if wanted else None
    cancel_at(subscription, at, **details, cancel_at_period_end=wanted)


def cancel_at(subscription: StripeObject, at: int | None, **changes: Any) -> None:
    """End the subscription at a time; None lets it go on."""
    details = subscription["cancellation_details"] | {
        key: changes.pop(key) for key in ("comment", "feedback") if key in changes
    }
    details["reason"] = "cancellation_requested" if at else None
    standing.update(
        subscription,
        "customer.subscription.updated",
        **{"cancel_at_period_end": False, **changes},
        cancel_at=at,
        canceled_at=clock.now(subscription.customer_id) if at else None,
        cancellation_details=details,
    )


def period_over(subscription: StripeObject) -> None:
    """Do what is due for the subscription on its customer's clock."""
    now = clock.now(subscription.customer_id)
    status, until = subscription["status"], subscription["cancel_at"]
    if status == "incomplete":
        standing.expire(subscription)
    elif until is not None and until <= now:
        if status != "trialing":
            _bill_the_rest(subscription, until=until)
            subscription.refresh_from_db()
        standing.end(subscription, "cancellation_requested")
    elif status == "trialing":
        end_trial(subscription)
    else:
        renew(subscription)


def preview(subscription: StripeObject) -> dict[str, Any]:
    """Return the next invoice as it would be if the period ended now; raise Refusal if none is.

    A subscription that ends with its period gets one of its usage alone.
    """
    if subscription["status"] not in ("active", "past_due", "trialing", "unpaid"):
        raise Refusal(
            f"No upcoming invoices for customer: {subscription.customer_id}",
            status=404,
            code="invoice_upcoming_none",
        )
    over = period_of(subscription.body)
    is_trial = subscription["status"] == "trialing"
    anchor = over.end if is_trial else subscription["billing_cycle_anchor"]
    ahead = _next_period(over.end, anchor, _prices(subscription))
    lines = lines_for(
        subscription,
        ahead=None if subscription["cancel_at_period_end"] else ahead,
        behind=None if is_trial else over,
    )
    id = f"upcoming_{new_id('invoice')}"
    body = invoicing.body_of(id, subscription, "upcoming", lines, over)
    head = {"id": id, "object": "invoice", "created": over.end, "livemode": False}
    return {**head, **body, "next_payment_attempt": over.end + invoicing.DRAFT_S}


def _bill(
    subscription: StripeObject, *, ahead: Period, behind: Period | None, over: Period
) -> None:
    """Draft the invoice of a new period. Nobody is asked to pay while the last one is unpaid."""
    lines = lines_for(subscription, ahead=ahead, behind=behind)
    due_at = clock.now(subscription.customer_id) + invoicing.DRAFT_S
    is_unpaid = subscription["status"] == "unpaid"
    invoice = invoicing.draft(
        subscription,
        "subscription_cycle",
        lines,
        period=over,
        behind=behind,
        due_at=None if is_unpaid else due_at,
    )
    if is_unpaid:
        invoicing.stop_collecting(invoice)


def _bill_the_rest(subscription: StripeObject, *, until: int) -> None:
    """Bill what was used in the period up to now, before the subscription ends."""
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


def _prices(subscription: StripeObject) -> list[tuple[StripeObject, int | None]]:
    items = subscription["items"]["data"]
    return [(find("price", item["price"]["id"]), item.get("quantity")) for item in items]


def _next_period(start: int, anchor: int, prices: list[tuple[StripeObject, int | None]]) -> Period:
    """Return the period that begins at start; raise Refusal for prices of different intervals."""
    intervals = {
        (price["recurring"]["interval"], price["recurring"]["interval_count"])
        for price, _ in prices
    }
    if len(intervals) != 1:
        raise not_simulated("subscriptions to prices of different intervals", param="items")
    ((interval, count),) = intervals
    return period_from(start, anchor=anchor, interval=interval, count=count)


def _moved(subscription: StripeObject, period: Period) -> dict[str, Any]:
    """Return a subscription's items in another period."""
    items = subscription["items"]
    moved = {"current_period_start": period.start, "current_period_end": period.end}
    return items | {"data": [item | moved for item in items["data"]]}


def _items(id: str, order: Order, period: Period, now: int) -> dict[str, Any]:
    bodies = []
    for price, quantity in order.prices:
        item: dict[str, Any] = {
            "id": new_id("subscription_item"),
            "object": "subscription_item",
            "billing_thresholds": None,
            "created": now,
            "current_period_end": period.end,
            "current_period_start": period.start,
            "discounts": [],
            "metadata": {},
            "plan": _plan(price),
            "price": price.body,
            "subscription": id,
            "tax_rates": [],
        }
        if price["recurring"]["usage_type"] == "licensed":
            item["quantity"] = 1 if quantity is None else quantity
        bodies.append(item)
    url = f"/v1/subscription_items?subscription={id}"
    return whole_list(bodies, url) | {"total_count": len(bodies)}


def _plan(price: StripeObject) -> dict[str, Any]:
    """Return a price as what Stripe called it before: items still have both."""
    recurring = price["recurring"]
    return {
        "id": price.id,
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": recurring["meter"],
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": recurring["trial_period_days"],
        "usage_type": recurring["usage_type"],
    }


def _body(order: Order, now: int, trial_end: int | None) -> dict[str, Any]:
    blank: dict[str, Any] = {
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": trial_end or now,
        "billing_cycle_anchor_config": None,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"},
            "type": "flexible",
            "updated_at": now,
        },
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "currency": order.prices[0][0]["currency"],
        "customer": order.customer_id,
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "latest_invoice": None,
        "metadata": {},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": now,
        "test_clock": None,
        "transfer_data": None,
        "trial_end": trial_end,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": now if trial_end else None,
    }
    return blank | order.fields
