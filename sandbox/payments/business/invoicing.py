"""Invoices: draft, open, and paid, void or uncollectible."""

from __future__ import annotations

from typing import Any

from sandbox.payments.addresses import page_url
from sandbox.payments.business import charging, clock
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
    """Make an invoice that can still change, and have it finalized at a time, if one is given.

    :param period: what Stripe shows as the invoice's own period: the one that is over.
    :param behind: the period whose usage is on it, to be counted again in the end.
    """
    id = new_id("invoice")
    invoice = create(
        "invoice",
        "invoice.created",
        id=id,
        customer_id=subscription.customer_id,
        hidden={"behind": behind},
        due_at=due_at,
        **body_of(id, subscription, reason, lines, period) | {"automatically_finalizes_at": due_at},
    )
    change(subscription, "customer.subscription.updated", latest_invoice=invoice.id)
    return invoice


def finalize(invoice: StripeObject) -> None:
    """Number the invoice and open it to be paid; one of nothing is paid at once."""
    if invoice["status"] != "draft":
        raise Refusal(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice."
        )
    _count_usage_again(invoice)
    now = clock.now(invoice.customer_id)
    change(
        invoice,
        "invoice.finalized",
        due_at=None,
        status="open",
        number=_next_number(invoice.customer_id),
        automatically_finalizes_at=None,
        effective_at=now,
        ending_balance=0,
        hosted_invoice_url=page_url(f"invoices/{invoice.id}"),
        invoice_pdf=page_url(f"invoices/{invoice.id}.pdf"),
        status_transitions=invoice["status_transitions"] | {"finalized_at": now},
    )
    if invoice["amount_due"]:
        _ask_for_payment(invoice)


def void(invoice: StripeObject) -> None:
    if invoice["status"] not in ("open", "uncollectible"):
        raise Refusal("You can only pass in open invoices. This invoice isn't open.")
    _give_up(invoice, "invoice.voided", "void", "voided_at")
    charging.cancel_intent(intent_of(invoice), "void_invoice")
    change(
        payment_of(invoice),
        status="canceled",
        status_transitions={"canceled_at": clock.now(invoice.customer_id), "paid_at": None},
    )


def mark_uncollectible(invoice: StripeObject) -> None:
    if invoice["status"] != "open":
        raise Refusal("You can only pass in open invoices. This invoice isn't open.")
    _give_up(invoice, "invoice.marked_uncollectible", "uncollectible", "marked_uncollectible_at")


def stop_collecting(invoice: StripeObject) -> None:
    """Leave an invoice open (or a draft), and do nothing more about it."""
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


def intent_of(invoice: StripeObject) -> StripeObject:
    return find("payment_intent", payment_of(invoice)["payment"]["payment_intent"])


def subscription_of(invoice: StripeObject) -> StripeObject:
    return find("subscription", invoice["parent"]["subscription_details"]["subscription"])


def body_of(
    id: str,
    subscription: StripeObject,
    reason: str,
    lines: list[dict[str, Any]],
    period: Period,
) -> dict[str, Any]:
    """Return an invoice as it begins."""
    customer = find("customer", subscription.customer_id)
    return {
        "account_country": "US",
        "account_name": "Switchhook (sandbox)",
        "account_tax_ids": None,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": customer.id,
        "customer_account": None,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": {
            "quote_details": None,
            "subscription_details": {
                "metadata": subscription["metadata"],
                "subscription": subscription.id,
            },
            "type": "subscription_details",
        },
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": period.end,
        "period_start": period.start,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "test_clock": None,
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    } | _with_lines(id, lines)


def _with_lines(id: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return lines and sums."""
    total = sum(line["amount"] for line in lines)
    bodies = [line | {"invoice": id} for line in lines]
    return {
        "amount_due": total,
        "amount_remaining": total,
        "lines": whole_list(bodies, f"/v1/invoices/{id}/lines") | {"total_count": len(lines)},
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "total": total,
        "total_excluding_tax": total,
    }


def _count_usage_again(invoice: StripeObject) -> None:
    """Put on a draft what was reported since it was made."""
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


def _ask_for_payment(invoice: StripeObject) -> None:
    intent = charging.create_intent(
        invoice.customer_id,
        invoice["amount_due"],
        invoice["currency"],
        "Subscription creation"
        if invoice["billing_reason"] == "subscription_create"
        else "Subscription update",
    )
    create(
        "invoice_payment",
        customer_id=invoice.customer_id,
        amount_paid=None,
        amount_requested=invoice["amount_due"],
        currency=invoice["currency"],
        invoice=invoice.id,
        is_default=True,
        payment={"payment_intent": intent.id, "type": "payment_intent"},
        status="open",
        status_transitions={"canceled_at": None, "paid_at": None},
    )


def _give_up(invoice: StripeObject, event: str, status: str, moment: str) -> None:
    now = clock.now(invoice.customer_id)
    change(
        invoice,
        event,
        due_at=None,
        auto_advance=False,
        next_payment_attempt=None,
        status=status,
        status_transitions=invoice["status_transitions"] | {moment: now},
    )
