"""Collects invoices: attempts, retries, and their effect on the subscription.

The retries are Stripe's former default: 3, 5 and 7 days after the previous attempt.
"""

from __future__ import annotations

from sandbox.payments.business import cards, charging, clock, invoicing, standing
from sandbox.payments.business.cards import Decline
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, find
from sandbox.payments.wire.errors import Refusal

RETRY_AFTER_S = (3 * clock.DAY, 5 * clock.DAY, 7 * clock.DAY)


def collect(invoice: StripeObject, method: StripeObject | None = None) -> Decline | None:
    """Charge the customer's card, or the given one; return why it was declined, or None."""
    subscription = invoicing.subscription_of(invoice)
    if invoice["amount_remaining"] == 0:
        _paid(invoice, subscription)
        return None
    method = method or cards.method_of(find("customer", invoice.customer_id), subscription)
    if method is None:
        raise RuntimeError("Who has subscribed has a card: it cannot be taken away.")
    decline = charging.charge(method)
    change(invoice, attempted=True, attempt_count=invoice["attempt_count"] + 1)
    if decline is None:
        _paid(invoice, subscription)
    else:
        _not_paid(invoice, subscription)
    return decline


def pay(invoice: StripeObject, method: StripeObject | None = None) -> None:
    """Pay an invoice now, on request; raise Refusal if that is impossible."""
    if invoice["status"] == "draft":
        invoicing.finalize(invoice)
    if invoice["status"] == "paid":
        raise Refusal("Invoice is already paid")
    if decline := collect(invoice, method):
        raise decline.refusal()


def _paid(invoice: StripeObject, subscription: StripeObject) -> None:
    now = clock.now(invoice.customer_id)
    if invoice["amount_due"]:
        change(
            invoicing.payment_of(invoice),
            "invoice_payment.paid",
            amount_paid=invoice["amount_due"],
            status="paid",
            status_transitions={"canceled_at": None, "paid_at": now},
        )
    change(
        invoice,
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
        due_at=None,
        amount_paid=invoice["amount_due"],
        amount_remaining=0,
        attempted=True,
        auto_advance=False,
        next_payment_attempt=None,
        status="paid",
        status_transitions=invoice["status_transitions"] | {"paid_at": now},
    )
    standing.invoice_paid(subscription, invoice)


def _not_paid(invoice: StripeObject, subscription: StripeObject) -> None:
    retry_at = _next_attempt(invoice, subscription)
    change(
        invoice,
        "invoice.updated",
        "invoice.payment_failed",
        due_at=retry_at,
        next_payment_attempt=retry_at,
    )
    standing.invoice_not_paid(subscription, is_given_up=retry_at is None)


def _next_attempt(invoice: StripeObject, subscription: StripeObject) -> int | None:
    """Return the time of the card's next retry, if there is one."""
    tried = invoice["attempt_count"]
    if subscription["status"] not in ("active", "past_due"):
        return None
    if not invoice["auto_advance"] or tried > len(RETRY_AFTER_S):
        return None
    return clock.now(invoice.customer_id) + RETRY_AFTER_S[tried - 1]
