"""``/v1/invoices`` and ``/v1/invoice_payments``"""

from __future__ import annotations

from typing import Any

from stripe.params import (
    InvoiceCreatePreviewParams,
    InvoiceFinalizeInvoiceParams,
    InvoiceListLinesParams,
    InvoiceListParams,
    InvoiceMarkUncollectibleParams,
    InvoicePaymentListParams,
    InvoicePaymentRetrieveParams,
    InvoicePayParams,
    InvoiceRetrieveParams,
    InvoiceUpdateParams,
    InvoiceVoidInvoiceParams,
)

from sandbox.payments.business import cards, collecting, invoicing, subscribing
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import change, find, merged
from sandbox.payments.wire.errors import Refusal, not_simulated
from sandbox.payments.wire.expansion import includable
from sandbox.payments.wire.lists import page_of, page_of_bodies, whole_list
from sandbox.payments.wire.requests import Params, endpoint


@endpoint("POST /v1/invoices/create_preview", InvoiceCreatePreviewParams)
def create_preview(params: Params) -> dict[str, Any]:
    customer_id = params.take("customer")
    if subscription_id := params.take("subscription"):
        return subscribing.preview(find("subscription", subscription_id, "subscription"))
    customer = find("customer", customer_id or "", "customer")
    subscription = subscribing.live_of(customer.id).first()
    if subscription is None:
        raise Refusal(
            f"No upcoming invoices for customer: {customer.id}",
            status=404,
            code="invoice_upcoming_none",
        )
    return subscribing.preview(subscription)


@endpoint("POST /v1/invoices/{id}", InvoiceUpdateParams)
def update(params: Params, id: str) -> StripeObject:
    invoice = find("invoice", id)
    changes = params.take_given("auto_advance", "description", "footer")
    if "metadata" in params:
        changes["metadata"] = merged(invoice["metadata"], params.take("metadata"))
    return change(invoice, "invoice.updated", **changes)


@endpoint("GET /v1/invoices/{id}", InvoiceRetrieveParams)
def retrieve(params: Params, id: str) -> StripeObject:
    return find("invoice", id)


@endpoint("GET /v1/invoices", InvoiceListParams)
def list_(params: Params) -> dict[str, Any]:
    found = StripeObject.objects.of("invoice")
    if customer_id := params.take("customer"):
        found = found.filter(customer_id=customer_id)
    if subscription_id := params.take("subscription"):
        found = found.filter(body__parent__subscription_details__subscription=subscription_id)
    given = params.take_given("collection_method", "status")
    found = found.filter(**{f"body__{name}": value for name, value in given.items()})
    return page_of(params, found, "/v1/invoices")


@endpoint("GET /v1/invoices/{id}/lines", InvoiceListLinesParams)
def list_lines(params: Params, id: str) -> dict[str, Any]:
    lines = find("invoice", id)["lines"]
    return page_of_bodies(params, lines["data"], lines["url"])


@endpoint("POST /v1/invoices/{id}/finalize", InvoiceFinalizeInvoiceParams)
def finalize(params: Params, id: str) -> StripeObject:
    """Finalize a draft, and collect it as time would have done."""
    invoice = find("invoice", id)
    invoicing.finalize(invoice)
    if params.take("auto_advance", invoice["auto_advance"]):
        collecting.collect(invoice)
    return invoice


@endpoint("POST /v1/invoices/{id}/pay", InvoicePayParams)
def pay(params: Params, id: str) -> StripeObject:
    invoice = find("invoice", id)
    params.ignore("off_session")
    if params.take("paid_out_of_band", False):
        raise not_simulated("payments outside of Stripe", param="paid_out_of_band")
    method_id = params.take("payment_method")
    method = method_id and cards.attached(method_id, invoice.customer_id, "payment_method")
    collecting.pay(invoice, method or None)
    return invoice


@endpoint("POST /v1/invoices/{id}/void", InvoiceVoidInvoiceParams)
def void(params: Params, id: str) -> StripeObject:
    invoice = find("invoice", id)
    invoicing.void(invoice)
    return invoice


@endpoint("POST /v1/invoices/{id}/mark_uncollectible", InvoiceMarkUncollectibleParams)
def mark_uncollectible(params: Params, id: str) -> StripeObject:
    invoice = find("invoice", id)
    invoicing.mark_uncollectible(invoice)
    return invoice


@endpoint("GET /v1/invoice_payments/{id}", InvoicePaymentRetrieveParams)
def retrieve_payment(params: Params, id: str) -> StripeObject:
    return find("invoice_payment", id)


@endpoint("GET /v1/invoice_payments", InvoicePaymentListParams)
def list_payments(params: Params) -> dict[str, Any]:
    given = params.take_given("invoice", "status")
    found = StripeObject.objects.of("invoice_payment")
    found = found.filter(**{f"body__{name}": value for name, value in given.items()})
    if payment := params.take("payment"):
        found = found.filter(body__payment__payment_intent=payment.get("payment_intent"))
    return page_of(params, found, "/v1/invoice_payments")


@includable("invoice", "payments")
def _payments_of(invoice: dict[str, Any]) -> dict[str, Any]:
    found = StripeObject.objects.of("invoice_payment").filter(body__invoice=invoice["id"])
    return whole_list([payment.body for payment in found], f"/v1/invoices/{invoice['id']}/payments")
