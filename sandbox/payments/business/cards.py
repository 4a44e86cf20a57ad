"""Stripe's test cards that the stand-in knows, and what happens when they are charged.

https://docs.stripe.com/testing#cards
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.payments.bodies import blank
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import create, find
from sandbox.payments.wire.errors import Refusal


@dataclass(frozen=True, slots=True)
class Decline:
    """The reason for a declined card, in Stripe's words."""

    code: str
    message: str
    decline_code: str = ""

    def refusal(self, **more: Any) -> Refusal:
        """Return it as the API's error 402: the attempt stays recorded."""
        if self.decline_code:
            more["decline_code"] = self.decline_code
        return Refusal(
            self.message,
            status=402,
            type="card_error",
            code=self.code,
            keeps_changes=True,
            **more,
        )


DECLINES = {
    "generic_decline": Decline("card_declined", "Your card was declined.", "generic_decline"),
    "insufficient_funds": Decline(
        "card_declined", "Your card has insufficient funds.", "insufficient_funds"
    ),
    "expired_card": Decline("expired_card", "Your card has expired.", "expired_card"),
    "processing_error": Decline(
        "processing_error",
        "An error occurred while processing your card. Try again in a little bit.",
        "processing_error",
    ),
}
INCORRECT_NUMBER = Decline("incorrect_number", "Your card number is incorrect.")


@dataclass(frozen=True, slots=True)
class Card:
    number: str
    brand: str
    what: str
    decline: str = ""
    # It can be saved, and is declined only when it is charged.
    declines_later: bool = False


CARDS = [
    Card("4242424242424242", "visa", "is charged"),
    Card("5555555555554444", "mastercard", "is charged"),
    Card(
        "4000000000000002",
        "visa",
        "is declined",
        "generic_decline",
    ),
    Card("4000000000009995", "visa", "has insufficient funds", "insufficient_funds"),
    Card("4000000000000069", "visa", "has expired", "expired_card"),
    Card("4000000000000119", "visa", "fails while it is processed", "processing_error"),
    Card(
        "4000000000000341",
        "visa",
        "is taken, and declined each time it is charged",
        "generic_decline",
        declines_later=True,
    ),
]
_BY_NUMBER = {card.number: card for card in CARDS}


def card_numbered(number: str) -> Card:
    """Return the test card with the number; raise Refusal."""
    digits = number.replace(" ", "").replace("-", "")
    card = _BY_NUMBER.get(digits)
    if card is None:
        raise INCORRECT_NUMBER.refusal(param="number")
    return card


def card_of(method: StripeObject) -> Card:
    return _BY_NUMBER[method.hidden["number"]]


def attach(card: Card, customer: StripeObject) -> StripeObject:
    """Let the customer pay with a card; raise Refusal if it is declined at once."""
    if card.decline and not card.declines_later:
        raise DECLINES[card.decline].refusal()
    body = blank("payment_method")
    who = {"email": customer["email"], "name": customer["name"]}
    return create(
        "payment_method",
        "payment_method.attached",
        customer_id=customer.id,
        hidden={"number": card.number},
        billing_details=body["billing_details"] | who,
        card=body["card"] | _of_card(card),
        customer=customer.id,
    )


def method_of(customer: StripeObject, subscription: StripeObject | None) -> StripeObject | None:
    """Return the payment method for the customer's invoices: the subscription's own comes first."""
    own = subscription and subscription["default_payment_method"]
    method_id = own or customer["invoice_settings"]["default_payment_method"]
    return find("payment_method", method_id) if method_id else None


def _of_card(card: Card) -> dict[str, Any]:
    last4 = card.number[-4:]
    return {
        "brand": card.brand,
        "display_brand": card.brand,
        "fingerprint": f"sandbox{last4}",
        "last4": last4,
        "networks": {"available": [card.brand], "preferred": None},
    }
