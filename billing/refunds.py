"""Refunds of invoices."""

from __future__ import annotations

from typing import Any

import stripe


def invoice_refund(
    invoice_id: str, *, key: str = "refund", cents: int | None = None, **details: Any
) -> None:
    """Refund an invoice's payment, or a part of it. Repeated within a day, it refunds once.

    Use it inside ``asking()``.
    """
    if cents is not None:
        details["amount"] = cents
    for payment in stripe.InvoicePayment.list(invoice=invoice_id, status="paid").auto_paging_iter():
        try:
            stripe.Refund.create(
                payment_intent=str(payment.payment.payment_intent),
                idempotency_key=f"{key}-{payment.id}",
                **details,
            )
        except stripe.InvalidRequestError as error:
            if error.code != "charge_already_refunded":
                raise
