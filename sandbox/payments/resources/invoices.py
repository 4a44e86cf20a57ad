"""``/v1/invoices``, ``/v1/invoice_payments`` and ``/v1/refunds``"""

from __future__ import annotations

from typing import Any

from stripe.params import (
    InvoiceCreatePreviewParams,
    InvoiceFinalizeInvoiceParams,
    InvoiceListParams,
    InvoicePaymentListParams,
    InvoicePayParams,
    InvoiceUpdateParams,
    RefundCreateParams,
)

from sandbox.payments.business import charging, collecting, invoicing, subscribing
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, find, merged
from sandbox.payments.wire.lists import page_of
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("POST /v1/invoices/create_preview", InvoiceCreatePreviewParams)
def create_preview(params: Params) -> dict[str, Any]:
    customer = find("customer", params.take("customer", ""), "customer")
    return subscribing.preview_for(customer.id)


@endpoint("POST /v1/invoices/{id}", InvoiceUpdateParams)
def update(params: Params, id: str) -> StripeObject:
    invoice = find("invoice", id)
    metadata = merged(invoice["metadata"], params.take("metadata", {}))
    return change(invoice, "invoice.updated", metadata=metadata)


@endpoint("GET /v1/invoices", InvoiceListParams)
def list_(params: Params) -> dict[str, Any]:
    given = params.take_given("customer", "status")
    return page_of(params, StripeObject.objects.of("invoice").having(given), "/v1/invoices")


@endpoint("POST /v1/invoices/{id}/finalize", InvoiceFinalizeInvoiceParams)
def finalize(params: Params, id: str) -> StripeObject:
    """Finalize a draft, and collect it as time would."""
    invoice = find("invoice", id)
    invoicing.finalize(invoice)
    if params.take("auto_advance", invoice["auto_advance"]):
        collecting.collect(invoice)
    return invoice


@endpoint("POST /v1/invoices/{id}/pay", InvoicePayParams)
def pay(params: Params, id: str) -> StripeObject:
    invoice = find("invoice", id)
    collecting.pay(invoice)
    return invoice


@endpoint("GET /v1/invoice_payments", InvoicePaymentListParams)
def list_payments(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("invoice_payment")
    given = params.take_given("invoice", "status")
    return page_of(params, found.having(given), "/v1/invoice_payments")


@endpoint("POST /v1/refunds", RefundCreateParams)
def create_refund(params: Params) -> StripeObject:
    intent_id, amount = params.take("payment_intent", ""), params.take("amount")
    return charging.refund(intent_id, amount, reason=params.take("reason"))
