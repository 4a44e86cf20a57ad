"""Charging cards: payment intents, charges, and what is given back."""

from __future__ import annotations

from typing import Any

from sandbox.payments.business import cards, clock
from sandbox.payments.business.cards import DECLINES, Decline
from sandbox.payments.ids import new_id, random_text
from sandbox.payments.models import Steering, StripeObject
from sandbox.payments.objects import change, create
from sandbox.payments.wire.errors import Refusal

# Stripe's fee in the US: 2.9 % and 30 cents.
_FEE_PERMILLE = 29
_FEE_CENTS = 30


def create_intent(customer_id: str, amount: int, currency: str, what: str) -> StripeObject:
    """Return a payment intent that waits for a card."""
    id = new_id("payment_intent")
    return create(
        "payment_intent",
        "payment_intent.created",
        id=id,
        customer_id=customer_id,
        amount=amount,
        amount_capturable=0,
        amount_details={"tip": {}},
        amount_received=0,
        application=None,
        application_fee_amount=None,
        automatic_payment_methods=None,
        canceled_at=None,
        cancellation_reason=None,
        capture_method="automatic",
        client_secret=f"{id}_secret_{random_text(24)}",
        confirmation_method="automatic",
        currency=currency,
        customer=customer_id,
        customer_account=None,
        description=what,
        excluded_payment_method_types=None,
        last_payment_error=None,
        latest_charge=None,
        metadata={},
        next_action=None,
        on_behalf_of=None,
        payment_method=None,
        payment_method_configuration_details=None,
        payment_method_options={"card": {"request_three_d_secure": "automatic"}},
        payment_method_types=["card"],
        processing=None,
        receipt_email=None,
        review=None,
        setup_future_usage="off_session",
        shipping=None,
        source=None,
        statement_descriptor=None,
        statement_descriptor_suffix=None,
        status="requires_payment_method",
        transfer_data=None,
        transfer_group=None,
    )


def confirm(intent: StripeObject, method: StripeObject) -> Decline | None:
    """Charge the card; return why it was declined, if it was."""
    decline = _decline_of(method, intent.customer_id)
    charge = _charge(intent, method, decline)
    if decline is None:
        change(
            intent,
            "payment_intent.succeeded",
            amount_received=intent["amount"],
            last_payment_error=None,
            latest_charge=charge.id,
            payment_method=method.id,
            status="succeeded",
        )
        return None
    error = decline.refusal(charge=charge.id, payment_method=method.body).error
    change(
        intent,
        "payment_intent.payment_failed",
        last_payment_error=error,
        latest_charge=charge.id,
        payment_method=None,
        status="requires_payment_method",
    )
    return decline


def cancel_intent(intent: StripeObject, reason: str) -> None:
    """Give up on a payment that was not made."""
    if intent["status"] in ("succeeded", "canceled"):
        return
    change(
        intent,
        "payment_intent.canceled",
        canceled_at=clock.now(intent.customer_id),
        cancellation_reason=reason,
        status="canceled",
    )


def create_setup_intent(customer_id: str, method: StripeObject) -> StripeObject:
    """Write that a card was taken, to be charged later."""
    id = new_id("setup_intent")
    return create(
        "setup_intent",
        "setup_intent.created",
        "setup_intent.succeeded",
        id=id,
        customer_id=customer_id,
        application=None,
        automatic_payment_methods=None,
        cancellation_reason=None,
        client_secret=f"{id}_secret_{random_text(24)}",
        customer=customer_id,
        customer_account=None,
        description=None,
        excluded_payment_method_types=None,
        flow_directions=None,
        last_setup_error=None,
        latest_attempt=None,
        mandate=None,
        metadata={},
        next_action=None,
        on_behalf_of=None,
        payment_method=method.id,
        payment_method_configuration_details=None,
        payment_method_options={"card": {"request_three_d_secure": "automatic"}},
        payment_method_types=["card"],
        single_use_mandate=None,
        status="succeeded",
        usage="off_session",
    )


def refund(charge: StripeObject, amount: int | None, reason: str | None) -> StripeObject:
    """Give (a part of) a charge back; raise Refusal when there is not as much left of it."""
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = left if amount is None else amount
    if left == 0:
        raise Refusal(
            f"Charge {charge.id} has already been refunded.", code="charge_already_refunded"
        )
    if not 0 < amount <= left:
        raise Refusal(
            f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge "
            f"(${left / 100:.2f})",
            param="amount",
        )
    made = create(
        "refund",
        customer_id=charge.customer_id,
        amount=amount,
        balance_transaction=None,
        charge=charge.id,
        currency=charge["currency"],
        destination_details={"card": {"type": "refund"}, "type": "card"},
        metadata={},
        payment_intent=charge["payment_intent"],
        reason=reason,
        receipt_number=None,
        source_transfer_reversal=None,
        status="succeeded",
        transfer_reversal=None,
    )
    transaction = _balance_transaction(made, -amount, fee=0, type="refund")
    refunded = charge["amount_refunded"] + amount
    change(made, "refund.created", balance_transaction=transaction.id)
    change(
        charge,
        "charge.refunded",
        amount_refunded=refunded,
        refunded=refunded == charge["amount"],
    )
    return made


def forget_next_decline(customer_id: str) -> None:
    """The next charge was declined, as it was to be; the one after that goes by the card."""
    Steering.objects.filter(pk=customer_id).update(next_charge="")


def _decline_of(method: StripeObject, customer_id: str) -> Decline | None:
    """Return why the card is declined, as whoever steers the customer has it, or its number."""
    steering = Steering.objects.filter(pk=customer_id).exclude(next_charge="").first()
    if steering:
        forget_next_decline(customer_id)
        return DECLINES[steering.next_charge]
    reason = cards.card_of(method).decline
    return DECLINES[reason] if reason else None


def _charge(intent: StripeObject, method: StripeObject, decline: Decline | None) -> StripeObject:
    is_paid = decline is None
    charge = create(
        "charge",
        customer_id=intent.customer_id,
        amount=intent["amount"],
        amount_captured=intent["amount"] if is_paid else 0,
        amount_refunded=0,
        application=None,
        application_fee=None,
        application_fee_amount=None,
        balance_transaction=None,
        billing_details=method["billing_details"],
        calculated_statement_descriptor="SANDBOX",
        captured=is_paid,
        currency=intent["currency"],
        customer=intent.customer_id,
        description=intent["description"],
        disputed=False,
        failure_balance_transaction=None,
        failure_code=decline and decline.code,
        failure_message=decline and decline.message,
        fraud_details={},
        metadata={},
        on_behalf_of=None,
        outcome=_outcome(decline),
        paid=is_paid,
        payment_intent=intent.id,
        payment_method=method.id,
        payment_method_details={"card": _charged_card(method["card"]), "type": "card"},
        radar_options={},
        receipt_email=None,
        receipt_number=None,
        receipt_url=None,
        refunded=False,
        review=None,
        shipping=None,
        source=None,
        source_transfer=None,
        statement_descriptor=None,
        statement_descriptor_suffix=None,
        status="succeeded" if is_paid else "failed",
        transfer_data=None,
        transfer_group=None,
    )
    if decline:
        return change(charge, "charge.failed")
    fee = round(intent["amount"] * _FEE_PERMILLE / 1000) + _FEE_CENTS
    transaction = _balance_transaction(charge, intent["amount"], fee=fee, type="charge")
    return change(charge, "charge.succeeded", balance_transaction=transaction.id)


_OF_A_CHARGED_CARD = (
    "brand",
    "checks",
    "country",
    "exp_month",
    "exp_year",
    "fingerprint",
    "funding",
    "last4",
    "regulated_status",
    "wallet",
)


def _charged_card(card: dict[str, Any]) -> dict[str, Any]:
    """Return what a charge says of its card."""
    kept = {name: card[name] for name in _OF_A_CHARGED_CARD}
    return kept | {"network": card["brand"], "installments": None, "three_d_secure": None}


def _outcome(decline: Decline | None) -> dict[str, Any]:
    return {
        "advice_code": "try_again_later" if decline else None,
        "network_advice_code": None,
        "network_decline_code": "01" if decline else None,
        "network_status": "declined_by_network" if decline else "approved_by_network",
        "reason": decline and decline.decline_code,
        "risk_level": "normal",
        "seller_message": (
            "The bank did not return any further details with this decline."
            if decline
            else "Payment complete."
        ),
        "type": "issuer_declined" if decline else "authorized",
    }


def _balance_transaction(source: StripeObject, amount: int, *, fee: int, type: str) -> StripeObject:
    now = clock.now(source.customer_id)
    details = [
        {
            "amount": fee,
            "application": None,
            "currency": source["currency"],
            "description": "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]
    return create(
        "balance_transaction",
        customer_id=source.customer_id,
        amount=amount,
        available_on=now + 2 * clock.DAY,
        balance_type="payments",
        currency=source["currency"],
        description=source["description"] if type == "charge" else "REFUND FOR CHARGE",
        exchange_rate=None,
        fee=fee,
        fee_details=details if fee else [],
        net=amount - fee,
        reporting_category=type,
        source=source.id,
        status="pending",
        type=type,
    )
