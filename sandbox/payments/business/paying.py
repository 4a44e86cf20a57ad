"""What a customer does in the portal and on an invoice's page: another card, and paying."""

from __future__ import annotations

from sandbox.payments.business import cards, charging, collecting, customers, standing, subscribing
from sandbox.payments.business.cards import Card
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find


def set_card(customer: StripeObject, card: Card) -> StripeObject:
    """Have a customer's subscriptions and invoices paid with a card from now on; raise Refusal."""
    details = {"email": customer["email"], "name": customer["name"]}
    method = cards.create_method(card, customer_id=customer.id, billing_details=details)
    cards.attach(method, customer.id)
    charging.create_setup_intent(customer.id, method)
    customers.set_default_method(customer, method.id)
    for subscription in subscribing.live_of(customer.id):
        standing.update(
            subscription, "customer.subscription.updated", default_payment_method=method.id
        )
    return method


def pay_invoice(invoice: StripeObject, card: Card | None) -> None:
    """Pay an invoice, with a card that is kept for later, or with the one there is."""
    method = set_card(find("customer", invoice.customer_id), card) if card else None
    collecting.pay(invoice, method)
