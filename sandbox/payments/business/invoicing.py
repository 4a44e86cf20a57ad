"""Invoices: draft, open, paid."""

from __future__ import annotations

from typing import Any

from sandbox.payments.addresses import page_url
from sandbox.payments.bodies import blank
from sandbox.payments.business import clock
from sandbox.payments.business.lines import lines_for
from sandbox.payments.business.periods import Period
from sandbox.payments.ids import new_id
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, create, find
from sandbox.payments.wire.errors import Refusal
from sandbox.payments.wire.lists import whole_list

# A renewal's draft waits for usage that is reported late.
DRAFT_S = clock.HOUR


def draft(
    subscription: StripeObject,
    reason: str,
    lines: list[dict[str, Any]],
    *,
    period: Period,
    behind: Period | None = None,
    due_at: int | None = None,
) -> StripeObject:
    """Create a draft invoice, to be finalized at the given time, if any.

    :param period: the invoice's own period, which is the one that has ended.
    :param behind: the period whose usage it bills, to be summed again at the end.
    """
    id = new_id("invoice")
    invoice = create(
        "invoice",
        "invoice.created",
        id=id,
        customer_id=subscription.customer_id,
        hidden={"behind": behind},
        due_at=due_at,
        automatically_finalizes_at=due_at,
        **fields_of(id, subscription, reason, lines, period),
    )
    change(subscription, "customer.subscription.updated", latest_invoice=invoice.id)
    return invoice


def finalize(invoice: StripeObject) -> None:
    """Number the invoice and open it for payment; a zero invoice is paid at once."""
    if invoice["status"] != "draft":
        raise Refusal(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice."
        )
    _count_usage_again(invoice)
    now = clock.now(invoice.customer_id)
    page = page_url(f"invoices/{invoice.id}")
    change(
        invoice,
        "invoice.finalized",
        due_at=None,
        status="open",
        number=_next_number(invoice.customer_id),
        automatically_finalizes_at=None,
        effective_at=now,
        ending_balance=0,
        hosted_invoice_url=page,
        invoice_pdf=page,
        status_transitions=invoice["status_transitions"] | {"finalized_at": now},
    )
    if invoice["amount_due"]:
        create(
            "invoice_payment",
            customer_id=invoice.customer_id,
            amount_requested=invoice["amount_due"],
            currency=invoice["currency"],
            invoice=invoice.id,
            payment={"payment_intent": new_id("payment_intent"), "type": "payment_intent"},
        )


def stop_collecting(invoice: StripeObject) -> None:
    """Leave an invoice open (or a draft), and stop collecting it."""
    change(invoice, "invoice.updated", due_at=None, auto_advance=False, next_payment_attempt=None)


def unpaid_of(subscription: StripeObject) -> list[StripeObject]:
    """Return a subscription's drafts and open invoices, oldest first."""
    invoices = StripeObject.objects.of("invoice").filter(
        customer_id=subscription.customer_id,
        body__parent__subscription_details__subscription=subscription.id,
        body__status__in=["draft", "open"],
    )
    return list(invoices.order_by("serial"))


def payment_of(invoice: StripeObject) -> StripeObject:
    """Return the payment that an invoice waits for, or that has paid it."""
    return StripeObject.objects.of("invoice_payment").get(body__invoice=invoice.id)


def subscription_of(invoice: StripeObject) -> StripeObject:
    return find("subscription", invoice["parent"]["subscription_details"]["subscription"])


def fields_of(
    id: str,
    subscription: StripeObject,
    reason: str,
    lines: list[dict[str, Any]],
    period: Period,
) -> dict[str, Any]:
    """Return the fields of a new invoice that depend on its subscription."""
    customer = find("customer", subscription.customer_id)
    details = {"metadata": subscription["metadata"], "subscription": subscription.id}
    return {
        "billing_reason": reason,
        "currency": subscription["currency"],
        "customer": customer.id,
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "parent": {
            "quote_details": None,
            "subscription_details": details,
            "type": "subscription_details",
        },
        "period_end": period.end,
        "period_start": period.start,
    } | _with_lines(id, lines)


def preview(
    subscription: StripeObject, lines: list[dict[str, Any]], period: Period
) -> dict[str, Any]:
    """Return a preview of an invoice, which is not stored."""
    id = f"upcoming_{new_id('invoice')}"
    head = {"id": id, "object": "invoice", "created": period.end, "livemode": False}
    fields = fields_of(id, subscription, "upcoming", lines, period)
    return {**head, **blank("invoice"), **fields, "next_payment_attempt": period.end + DRAFT_S}


def _with_lines(id: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return lines and sums."""
    total = sum(line["amount"] for line in lines)
    bodies = [line | {"invoice": id} for line in lines]
    sums = ("amount_due", "amount_remaining", "subtotal", "subtotal_excluding_tax", "total")
    return dict.fromkeys((*sums, "total_excluding_tax"), total) | {
        "lines": whole_list(bodies, f"/v1/invoices/{id}/lines") | {"total_count": len(lines)}
    }


def _count_usage_again(invoice: StripeObject) -> None:
    """Add usage to a draft that was reported after its creation."""
    if not invoice.hidden.get("behind"):
        return
    behind = Period(*invoice.hidden["behind"])
    metered = lines_for(subscription_of(invoice), ahead=None, behind=behind)
    by_item = {_item_of(line): line for line in metered}
    lines = [
        line | {key: by_item[_item_of(line)][key] for key in _COUNTED}
        if _item_of(line) in by_item
        else line
        for line in invoice["lines"]["data"]
    ]
    change(invoice, "invoice.updated", **_with_lines(invoice.id, lines))


_COUNTED = ("amount", "description", "quantity", "quantity_decimal", "subtotal")


def _item_of(line: dict[str, Any]) -> str:
    return str(line["parent"]["subscription_item_details"]["subscription_item"])


def _next_number(customer_id: str) -> str:
    customer = find("customer", customer_id)
    sequence = customer["next_invoice_sequence"]
    change(customer, next_invoice_sequence=sequence + 1)
    return f"{customer['invoice_prefix']}-{sequence:04d}"
