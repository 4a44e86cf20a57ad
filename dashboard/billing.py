"""The billing pages: plan, spending, limit and invoices, and the links to Stripe.

The main page makes no request to Stripe. The parts that do are loaded after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Account
from billing.checkout import checkout_open
from billing.customers import has_payment_method
from billing.portal import invoices_of, portal_url_for, upcoming_invoice_of
from billing.serializers import LINE_KINDS, OTHER_LINE, invoice_body, upcoming_invoice_body
from core.errors import ApiError
from core.money import dollars, price
from core.pages import page
from dashboard.access import PageRequest, for_customer, reason_not_active
from dashboard.rendering import STATUS_TONES, dashboard_page
from usage.spending import (
    LEAST_LIMIT,
    MOST_LIMIT,
    Spending,
    limit_problem,
    spending_limit_set,
    spending_of,
)

# The field of the form that confirms a limit.
_CONFIRMED = "confirmed"
_KINDS = [*LINE_KINDS.values(), OTHER_LINE]
_INVOICE_BADGES = {"paid": "good", "open": "note", "uncollectible": "bad"}


class LimitForm(forms.Form):
    amount = forms.DecimalField(
        label="Monthly limit in US dollars",
        required=False,
        help_text="For minutes, without the base fee. Leave empty for no limit.",
        widget=forms.NumberInput(
            {"inputmode": "decimal", "step": "0.01", "min": LEAST_LIMIT, "max": MOST_LIMIT}
        ),
    )

    def clean_amount(self) -> Decimal | None:
        amount: Decimal | None = self.cleaned_data["amount"]
        if amount is not None and (problem := limit_problem(amount)):
            raise ValidationError(problem)
        return amount


@for_customer
@require_safe
def billing(request: PageRequest) -> HttpResponse:
    spending = spending_of(request.user)
    return _page(request, spending, LimitForm(initial={"amount": spending.limit}))


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
def spending_limit(request: PageRequest) -> HttpResponse:
    """Set or remove the limit. One that would reject calls from now on has to be confirmed."""
    if request.method != "POST":
        return redirect(f"{reverse('dashboard-billing')}#limit")
    form = LimitForm(request.POST)
    before = spending_of(request.user)
    if not form.is_valid():
        return _page(request, before, form, status=400)
    amount = form.cleaned_data["amount"]
    stops_calls = replace(before, limit=amount).is_reached and not before.is_reached
    if stops_calls and _CONFIRMED not in request.POST:
        return _confirm_limit(request, before, amount)
    spending = spending_limit_set(account=request.user, amount=amount)
    if spending.is_reached:
        messages.warning(
            request, "Spending limit saved. You have already reached it, so new calls are rejected."
        )
    elif spending.limit is None:
        messages.success(request, "Spending limit removed.")
    else:
        messages.success(request, f"Spending limit set to {dollars(spending.limit)} a month.")
    return redirect("dashboard-billing")


def _confirm_limit(request: PageRequest, spending: Spending, amount: Decimal) -> HttpResponse:
    context = {
        "amount": amount,
        "limit": dollars(amount),
        "spent": dollars(spending.spent),
        "confirmed": _CONFIRMED,
    }
    return dashboard_page(
        request, "dashboard-billing", "dashboard/billing_limit_confirm.html", context
    )


@for_customer
@require_POST
def pay(request: PageRequest) -> HttpResponse:
    """Redirect to Stripe Checkout."""
    return _to_stripe(request, lambda account: checkout_open(account=account))


@for_customer
@require_POST
def manage(request: PageRequest) -> HttpResponse:
    """Redirect to Stripe's billing portal."""
    return _to_stripe(request, portal_url_for)


@for_customer
@require_safe
def invoices(request: PageRequest) -> HttpResponse:
    """The invoices, as a part of the page or, without JavaScript, as a page of their own."""
    context: dict[str, Any] = {}
    try:
        context["invoices"] = [_invoice(invoice_body(each)) for each in invoices_of(request.user)]
    except ApiError as refusal:
        context["problem"] = refusal.message
    return _part(request, "Invoices", "dashboard/billing_invoices.html", context)


@for_customer
@require_safe
def upcoming_invoice(request: PageRequest) -> HttpResponse:
    """The next invoice so far, served in the same way."""
    context: dict[str, Any] = {}
    try:
        context["upcoming"] = _upcoming(upcoming_invoice_body(upcoming_invoice_of(request.user)))
    except ApiError as refusal:
        if refusal.status_code != 404:
            context["problem"] = refusal.message
    return _part(request, "Next invoice", "dashboard/billing_upcoming.html", context)


def _page(
    request: PageRequest, spending: Spending, form: forms.Form, *, status: int = 200
) -> HttpResponse:
    account = request.user
    context = {
        "form": form,
        "status": account.effective_status,
        "badge": STATUS_TONES[account.effective_status],
        "not_active": reason_not_active(account),
        "may_pay": account.status == Account.Status.INACTIVE and not account.suspended_by_operator,
        "has_card": has_payment_method(account),
        "base": dollars(settings.MONTHLY_BASE),
        "rate": price(settings.PER_MINUTE_RATE),
        "spending": spending,
        "spent": dollars(spending.spent),
        "limit": spending.limit and dollars(spending.limit),
        "month": timezone.now().date(),
    }
    return dashboard_page(
        request, "dashboard-billing", "dashboard/billing.html", context, status=status
    )


def _part(request: PageRequest, title: str, template: str, context: dict[str, Any]) -> HttpResponse:
    if request.htmx:
        return page(request, template, context)
    known = {"title": title, "part": template}
    return dashboard_page(
        request, "dashboard-billing", "dashboard/billing_part.html", known | context
    )


def _to_stripe(request: PageRequest, address_for: Callable[[Account], str]) -> HttpResponse:
    try:
        return redirect(address_for(request.user))
    except ApiError as refusal:
        messages.error(request, refusal.message)
        return redirect("dashboard-billing")


def _invoice(body: dict[str, Any]) -> dict[str, Any]:
    """Return an invoice of the API in the form the page shows."""
    return {
        "number": body["number"] or body["id"],
        "amount": _amount(body["amount"], body["currency"]),
        "created": datetime.fromisoformat(body["createdAt"]),
        "lines": _lines(body),
        "status": body["status"],
        "badge": _INVOICE_BADGES.get(body["status"], ""),
        "url": body["hostedUrl"],
    }


def _upcoming(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "amount": _amount(body["amount"], body["currency"]),
        "due": datetime.fromisoformat(body["periodEnd"]),
        "lines": _lines(body),
    }


def _lines(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of an invoice, the base fee first, each with what it pays for."""
    lines = sorted(body["lines"], key=lambda line: _KINDS.index(line["kind"]))
    return [
        {
            "kind": line["kind"],
            "description": line["description"],
            "quantity": line["quantity"],
            "amount": _amount(line["amount"], body["currency"]),
            "start": datetime.fromisoformat(line["periodStart"]),
            "end": datetime.fromisoformat(line["periodEnd"]),
        }
        for line in lines
    ]


def _amount(amount: float, currency: str) -> str:
    text = dollars(Decimal(str(amount)))
    return text if currency == "usd" else f"{text[1:]} {currency.upper()}"


urlpatterns = [
    path("dashboard/billing", billing, name="dashboard-billing"),
    path("dashboard/billing/limit", spending_limit, name="dashboard-billing-limit"),
    path("dashboard/billing/pay", pay, name="dashboard-billing-pay"),
    path("dashboard/billing/manage", manage, name="dashboard-billing-manage"),
    path("dashboard/billing/invoices", invoices, name="dashboard-billing-invoices"),
    path("dashboard/billing/upcoming", upcoming_invoice, name="dashboard-billing-upcoming"),
]
