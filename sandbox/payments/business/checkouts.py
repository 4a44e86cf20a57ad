"""Checkout sessions: their offers, and what happens when somebody pays."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sandbox.payments.addresses import page_url
from sandbox.payments.bodies import blank
from sandbox.payments.business import cards, charging, clock, subscribing
from sandbox.payments.business.cards import Card
from sandbox.payments.business.lines import cost
from sandbox.payments.business.subscribing import Prices
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import attempt, change, create, find
from sandbox.payments.wire.errors import Refusal

LIFE_S = clock.DAY


def open_session(
    *, customer: StripeObject, prices: Prices, subscription_data: dict[str, Any], **fields: Any
) -> StripeObject:
    """Create a checkout page for the prices, valid for a day."""
    id = new_id("checkout.session")
    expires_at = clock.now(customer.id) + LIFE_S
    items = [_item(price, quantity) for price, quantity in prices]
    # Minutes are billed after use.
    total = sum(item["amount_total"] for item in items)
    return create(
        "checkout.session",
        id=id,
        customer_id=customer.id,
        due_at=expires_at,
        hidden={"items": items, "subscription_data": subscription_data},
        amount_subtotal=total,
        amount_total=total,
        currency=prices[0][0]["currency"],
        customer=customer.id,
        expires_at=expires_at,
        url=page_url(f"checkout/{id}"),
        **fields,
    )


def complete(session: StripeObject, card: Card) -> StripeObject:
    """Subscribe as the session says, and pay with the card; return the subscription.

    Raises Refusal if the session is not open (any more) or the card is declined. Then nothing has
    changed, and the customer can try again.
    """
    if session["status"] != "open":
        raise Refusal(f"This Checkout Session cannot be paid: its status is {session['status']}.")
    try:
        # A failed payment leaves neither a subscription nor an invoice.
        with attempt():
            return _subscribe(session, card)
    except Refusal:
        charging.forget_next_decline(session.customer_id)
        raise


def expire(session: StripeObject) -> None:
    """Close the page without payment."""
    if session["status"] != "open":
        raise Refusal(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of {session['status']}."
        )
    change(session, "checkout.session.expired", due_at=None, status="expired", url=None)


def _subscribe(session: StripeObject, card: Card) -> StripeObject:
    customer = find("customer", session.customer_id)
    prices = [
        (find("price", item["price"]["id"]), item["quantity"]) for item in session.hidden["items"]
    ]
    metadata = session.hidden["subscription_data"].get("metadata", {})
    subscription = subscribing.begin(
        customer.id,
        prices,
        default_payment_method=cards.attach(card, customer).id,
        metadata=metadata,
    )
    change(
        session,
        "checkout.session.completed",
        due_at=None,
        customer_details=_details(customer),
        invoice=subscription["latest_invoice"],
        payment_status="paid",
        status="complete",
        subscription=subscription.id,
        url=None,
    )
    return subscription


def _details(customer: StripeObject) -> dict[str, Any]:
    unknown = dict.fromkeys(("address", "business_name", "individual_name", "phone"))
    known = {name: customer[name] for name in ("email", "name", "tax_exempt")}
    return {**unknown, **known, "tax_ids": []}


def _item(price: StripeObject, quantity: int | None) -> dict[str, Any]:
    amount = cost(price.body, Decimal(quantity)) if quantity else 0
    return blank("item") | {
        "id": new_id("item"),
        "object": "item",
        "amount_subtotal": amount,
        "amount_total": amount,
        "currency": price["currency"],
        "description": find("product", price["product"])["name"],
        "price": price.body,
        "quantity": quantity,
    }
