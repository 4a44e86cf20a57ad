"""Charges and refunds of cards."""

from __future__ import annotations

from sandbox.payments.business import cards
from sandbox.payments.business.cards import DECLINES, Decline
from sandbox.payments.models import Steering, StripeObject
from sandbox.payments.objects import create
from sandbox.payments.wire.errors import Refusal, missing


def charge(method: StripeObject) -> Decline | None:
    """Charge a card; return why it was declined, by the customer's settings or the card number."""
    steering = Steering.objects.filter(pk=method.customer_id).exclude(next_charge="").first()
    if steering:
        forget_next_decline(method.customer_id)
        return DECLINES[steering.next_charge]
    reason = cards.card_of(method).decline
    return DECLINES[reason] if reason else None


def forget_next_decline(customer_id: str) -> None:
    """The next charge was declined as configured. The one after that depends on the card."""
    Steering.objects.filter(pk=customer_id).update(next_charge="")


def refund(intent_id: str, amount: int | None, *, reason: str | None) -> StripeObject:
    """Refund a payment, or a part of it; raise Refusal if less than that is left of it."""
    payments = StripeObject.objects.of("invoice_payment")
    paid = payments.having({"payment__payment_intent": intent_id, "status": "paid"}).first()
    if paid is None:
        raise missing("payment_intent", intent_id, "payment_intent")
    refunds = StripeObject.objects.of("refund").having({"payment_intent": intent_id})
    left = paid["amount_paid"] - sum(each["amount"] for each in refunds)
    if left == 0:
        raise Refusal("Charge has already been refunded.", code="charge_already_refunded")
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        raise Refusal(
            f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge "
            f"(${left / 100:.2f})",
            param="amount",
        )
    return create(
        "refund",
        "refund.created",
        customer_id=paid.customer_id,
        amount=amount,
        payment_intent=intent_id,
        reason=reason,
    )
