"""The page of an invoice."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from sandbox.payments.business import collecting, customers, passing
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find, writing
from sandbox.payments.pages.common import CardForm, closed, found, show
from sandbox.payments.pages.overview import Overview
from sandbox.payments.wire.errors import Refusal


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, id: str) -> HttpResponse:
    invoice = _numbered(id)
    if invoice is None:
        return _unknown(request)
    passing.let_pass(invoice.customer_id)
    invoice.refresh_from_db()
    if request.method == "POST" and invoice["status"] == "open":
        return _pay(request, invoice)
    return _show(request, invoice, CardForm())


def _pay(request: HttpRequest, invoice: StripeObject) -> HttpResponse:
    """Pay with the saved card, or with another one, which is then saved."""
    card = None
    if request.POST.get("with") != "kept":
        form = CardForm(request.POST)
        if not form.is_valid():
            return _show(request, invoice, form, status=400)
        card = form.card
    try:
        with writing():
            customer = find("customer", invoice.customer_id)
            method = customers.set_card(customer, card) if card else None
            collecting.pay(find("invoice", invoice.id), method)
    except Refusal as refusal:
        invoice.refresh_from_db()
        return _show(request, invoice, CardForm(), problem=str(refusal), status=402)
    messages.success(request, "Thank you. The invoice is paid.")
    return redirect("sandbox-payments:invoice", invoice.id)


def _show(
    request: HttpRequest,
    invoice: StripeObject,
    form: CardForm,
    *,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    customer = find("customer", invoice.customer_id)
    context = {
        "invoice": invoice.body,
        "customer": customer.body,
        "kept": Overview.of(customer).card,
        "card": form,
        "problem": problem,
    }
    return show(request, "invoice", context, status=status)


def _numbered(id: str) -> StripeObject | None:
    """Return an invoice that customers may see, which excludes drafts."""
    invoice = found("invoice", id)
    return invoice if invoice and invoice["number"] else None


def _unknown(request: HttpRequest) -> HttpResponse:
    return closed(
        request,
        "There is no such invoice",
        "Or it is a draft, which nobody is asked to pay yet.",
        status=404,
    )
