"""Settles the invoices of a customer whose subscription has ended.

Use it inside ``asking()``. Safe to repeat after a crash.
"""

from __future__ import annotations

from datetime import datetime

import stripe
import structlog

from billing.plan import PRODUCT_ID, product_of_line
from billing.refunds import invoice_refund

log = structlog.get_logger(__name__)

_REFUNDED = "month_refunded"


def drafts_collect(customer_id: str, *, since: datetime) -> None:
    """Finalize and collect drafts since then: a subscription that ends leaves them as drafts."""
    drafts = stripe.Invoice.list(customer=customer_id, status="draft", limit=100)
    for draft in drafts.auto_paging_iter():
        if draft.created >= since.timestamp():
            _collect(draft.id)


def _collect(invoice_id: str) -> None:
    try:
        invoice = stripe.Invoice.finalize_invoice(invoice_id, auto_advance=True)
        if invoice.status == "open":
            stripe.Invoice.pay(invoice_id)
    except stripe.CardError:  # it stays open, and Stripe shows what is owed
        log.warning("last_invoice_not_paid", invoice_id=invoice_id)
    except stripe.InvalidRequestError as error:  # it is already final or paid
        log.info("last_invoice_changed", invoice_id=invoice_id, stripe_says=error.user_message)


def later_months_refund(customer_id: str, *, after: datetime) -> None:
    """Refund the base fee of months that began after a time, but not usage."""
    paid = stripe.Invoice.list(customer=customer_id, status="paid", limit=10)
    for invoice in paid.data:
        if invoice.created <= after.timestamp() or _REFUNDED in (invoice.metadata or {}):
            continue
        if cents := _base_cents(invoice, after):
            invoice_refund(invoice.id, cents=cents, key="month")
            stripe.Invoice.modify(invoice.id, metadata={_REFUNDED: str(cents)})


def _base_cents(invoice: stripe.Invoice, after: datetime) -> int:
    return sum(
        line["amount"]
        for line in invoice.to_dict()["lines"]["data"]
        if line["period"]["start"] > after.timestamp() and product_of_line(line) == PRODUCT_ID
    )
