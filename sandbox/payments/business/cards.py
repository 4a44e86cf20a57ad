"""Cards: the test numbers of Stripe's that are known here, and what happens when they are charged.

https://docs.stripe.com/testing#cards
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.payments.models import StripeObject, StripeObjectQuerySet
from sandbox.payments.objects import change, create
from sandbox.payments.wire.errors import Refusal


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a card is declined, in Stripe's words."""

    code: str
    message: str
    decline_code: str = ""

    def refusal(self, *, keeps_changes: bool = True, **more: Any) -> Refusal:
        """Return it as the API's error 402: what was attempted stays written down, mostly."""
        if self.decline_code:
            more["decline_code"] = self.decline_code
        return Refusal(
            self.message,
            status=402,
            type="card_error",
            code=self.code,
            keeps_changes=keeps_changes,
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
    # It is taken, and declined only when it is charged.
    declines_later: bool = False
    # A payment method of Stripe's that can be attached again and again.
    id: str = ""


CARDS = [
    Card("4242424242424242", "visa", "is charged", id="pm_card_visa"),
    Card("5555555555554444", "mastercard", "is charged", id="pm_card_mastercard"),
    Card(
        "4000000000000002",
        "visa",
        "is declined",
        "generic_decline",
        id="pm_card_chargeDeclined",
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
        id="pm_card_chargeCustomerFail",
    ),
]
_BY_NUMBER = {card.number: card for card in CARDS}
_BY_ID = {card.id: card for card in CARDS if card.id}


def card_numbered(number: str) -> Card:
    """Return the test card with the number; raise Refusal."""
    digits = number.replace(" ", "").replace("-", "")
    card = _BY_NUMBER.get(digits)
    if card is None:
        raise INCORRECT_NUMBER.refusal(param="number")
    return card


def card_known_as(id: str) -> Card | None:
    """Return the card that ``pm_card_visa`` and the like stand for."""
    return _BY_ID.get(id)


def card_of(method: StripeObject) -> Card:
    return _BY_NUMBER[method.hidden["number"]]


def create_method(
    card: Card, *, customer_id: str = "", billing_details: dict[str, Any] | None = None
) -> StripeObject:
    """Return a payment method for the card, not attached yet."""
    address = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
    details = {"address": address, "email": None, "name": None, "phone": None, "tax_id": None}
    return create(
        "payment_method",
        customer_id=customer_id,
        hidden={"number": card.number},
        allow_redisplay="unspecified",
        billing_details=details | (billing_details or {}),
        card=_card_body(card),
        customer=None,
        customer_account=None,
        metadata={},
        type="card",
    )


def attach(method: StripeObject, customer_id: str) -> None:
    """Let the customer pay with it; raise Refusal when the card is declined even so."""
    card = card_of(method)
    if card.decline and not card.declines_later:
        raise DECLINES[card.decline].refusal()
    method.customer_id = customer_id
    method.save(update_fields=["customer_id"])
    change(method, "payment_method.attached", customer=customer_id)


def attached(method_id: str, customer_id: str, param: str) -> StripeObject:
    """Return the customer's payment method; raise Refusal when it is not theirs."""
    method = methods_of(customer_id).filter(id=method_id).first()
    if method is None:
        raise Refusal(
            f"The customer does not have a payment method with the ID {method_id}. The payment "
            "method must be attached to the customer.",
            code="resource_missing",
            param=param,
        )
    return method


def detach(method: StripeObject) -> None:
    change(method, "payment_method.detached", customer=None)


def methods_of(customer_id: str) -> StripeObjectQuerySet:
    """Return the cards that are attached to a customer, newest first."""
    methods = StripeObject.objects.of("payment_method").filter(customer_id=customer_id)
    return methods.filter(body__customer=customer_id).order_by("-serial")


def _card_body(card: Card) -> dict[str, Any]:
    last4 = card.number[-4:]
    return {
        "brand": card.brand,
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "pass",
        },
        "country": "US",
        "display_brand": card.brand,
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": f"sandbox{last4}",
        "funding": "credit",
        "generated_from": None,
        "last4": last4,
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
