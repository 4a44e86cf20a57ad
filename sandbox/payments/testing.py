"""For tests: what a customer does on Stripe's pages, what time does, and the results.

Everything here takes the path of the pages and the clock, and returns what Stripe's API would.
"""

from __future__ import annotations

from typing import Any

from sandbox.payments.business import (
    cards,
    checkouts,
    clock,
    collecting,
    invoicing,
    passing,
    subscribing,
)
from sandbox.payments.business import customers as business_customers
from sandbox.payments.models import MeterReading, Steering, StripeObject
from sandbox.payments.objects import find, writing
from sandbox.payments.wire.errors import Refusal

GOOD_CARD = "4242424242424242"
DECLINED_CARD = "4000000000000002"
LATER_DECLINED_CARD = "4000000000000341"
"""It is taken, and declined each time it is charged."""

Body = dict[str, Any]


def session_id_of(url: str) -> str:
    """Return the id of the checkout session with this page."""
    return url.rstrip("/").rpartition("/")[2]


def pay(session: str, card: str = GOOD_CARD) -> Body:
    """Pay on a checkout page, by its URL or id; return the subscription.

    Raises Refusal with the page's message, of a declined card or an expired session.
    """
    with writing():
        found = find("checkout.session", session_id_of(session))
        return checkouts.complete(found, cards.card_numbered(card)).body


def declined(session: str, card: str = DECLINED_CARD) -> str:
    """Try to pay with a declined card; return the page's message."""
    try:
        pay(session, card)
    except Refusal as refusal:
        return str(refusal)
    raise AssertionError("The card was not declined.")


def expire(session: str) -> None:
    """Make a checkout page expire."""
    with writing():
        checkouts.expire(find("checkout.session", session_id_of(session)))


def start_clock(customer_id: str, *, days: float) -> None:
    """Set a new customer's clock this many days ahead, or back (negative).

    For use before anything happens: a subscription that began a month ago has a month of usage with
    timestamps in the past.
    """
    clock.set_to(customer_id, clock.real() + round(days * clock.DAY))


def now(customer_id: str) -> int:
    """Return the time on the customer's clock."""
    return clock.now(customer_id)


def turn(customer_id: str, *, days: float = 0, to: int | None = None) -> None:
    """Let time pass for a customer, with everything that is due."""
    if to is None:
        to = clock.now(customer_id) + round(days * clock.DAY)
    passing.turn(customer_id, to)


def turn_to_renewal(customer_id: str) -> None:
    """Let time pass until the next period has begun and its invoice was collected, or tried."""
    end = subscription_of(customer_id)["items"]["data"][0]["current_period_end"]
    passing.turn(customer_id, end + invoicing.DRAFT_S)


def turn_to_next(customer_id: str) -> None:
    """Let time pass until the next change: a renewal, an invoice, a retry."""
    due = passing.next_due(customer_id)
    if due is None or due.due_at is None:
        raise AssertionError("Nothing will happen to this customer by itself.")
    passing.turn(customer_id, max(due.due_at, clock.now(customer_id)))


def steer(customer_id: str, *, next_charge: str = "", dunning_end: str = "canceled") -> None:
    """Set why the next charge is declined (``generic_decline`` …), and how dunning ends."""
    Steering.objects.update_or_create(
        customer_id=customer_id,
        defaults={"next_charge": next_charge, "dunning_end": dunning_end},
    )


def set_card(customer_id: str, card: str) -> None:
    """Set another card of the customer, as in the portal."""
    with writing():
        business_customers.set_card(find("customer", customer_id), cards.card_numbered(card))


def pay_invoice(invoice_id: str) -> Body:
    """Pay an open invoice with the customer's card, as on its page."""
    with writing():
        invoice = find("invoice", invoice_id)
        collecting.pay(invoice)
        return invoice.body


def cancel(customer_id: str, *, at_period_end: bool = False) -> Body:
    """Cancel the customer's subscription, as in the portal."""
    with writing():
        subscription = _live(customer_id)
        if at_period_end:
            subscribing.cancel_at_period_end(subscription, wanted=True)
        else:
            subscribing.cancel(subscription, invoice_now=True)
        return subscription.body


def delete_customer(customer_id: str) -> None:
    """Delete the customer, as an operator in Stripe's dashboard."""
    with writing():
        business_customers.delete(find("customer", customer_id))


def customers() -> list[Body]:
    """Return all customers, oldest first."""
    return _bodies("customer")


def subscription_of(customer_id: str) -> Body:
    """Return the customer's newest subscription, ended or not."""
    return _bodies("subscription", customer_id=customer_id)[-1]


def subscriptions_of(customer_id: str) -> list[Body]:
    """Return all the customer's subscriptions, oldest first."""
    return _bodies("subscription", customer_id=customer_id)


def invoices_of(customer_id: str) -> list[Body]:
    """Return the customer's invoices, oldest first."""
    return _bodies("invoice", customer_id=customer_id)


def minutes_on(invoice: Body) -> int:
    """Return the quantity of an invoice's metered lines."""
    prices = {line["pricing"]["price_details"]["price"]: line for line in invoice["lines"]["data"]}
    metered = StripeObject.objects.filter(
        id__in=prices, body__recurring__usage_type="metered"
    ).values_list("id", flat=True)
    return sum(prices[id]["quantity"] for id in metered)


def refunds_of(customer_id: str) -> list[Body]:
    """Return a customer's refunds, oldest first."""
    return _bodies("refund", customer_id=customer_id)


def meter_events(customer_id: str) -> list[tuple[str, int]]:
    """Return a customer's accepted meter events: identifier and minutes."""
    readings = MeterReading.objects.filter(customer_id=customer_id).order_by("id")
    return [(reading.identifier, int(reading.value)) for reading in readings]


def events(*types: str) -> list[Body]:
    """Return the events of these types, or all, oldest first."""
    found = StripeObject.objects.filter(kind__in=["event", "v2.core.event"]).order_by("serial")
    return [each.body for each in found if not types or each["type"] in types]


def event_types() -> list[str]:
    """Return the types of all events, oldest first."""
    return [event["type"] for event in events()]


def _live(customer_id: str) -> StripeObject:
    found = subscribing.live_of(customer_id).first()
    if found is None:
        raise AssertionError("The customer has no subscription.")
    return found


def _bodies(kind: str, **filters: str) -> list[Body]:
    found = StripeObject.objects.of(kind).filter(**filters).order_by("serial")
    return [thing.body for thing in found]
