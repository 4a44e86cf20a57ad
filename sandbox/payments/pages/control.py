"""The control page: advance clocks, decline cards, make Stripe fail."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from sandbox.payments import steering
from sandbox.payments.business import clock, invoicing, passing, subscribing
from sandbox.payments.business.cards import DECLINES
from sandbox.payments.business.periods import period_of
from sandbox.payments.models import Fault, Steering, StripeObject
from sandbox.payments.objects import find, writing
from sandbox.payments.pages.common import closed, found, show
from sandbox.payments.pages.event_control import delivery_counts
from sandbox.payments.pages.overview import Overview

_SHOWN_CUSTOMERS = 50
_SHOWN_CHECKOUTS = 10
_STEPS = {"hour": clock.HOUR, "day": clock.DAY, "week": 7 * clock.DAY}
_HAPPENINGS = {
    "checkout.session": "a checkout page expires",
    "invoice": "an invoice is collected",
    "subscription": "the subscription's period ends",
}


class SteeringForm(forms.ModelForm):
    next_charge = forms.ChoiceField(
        label="The next charge",
        required=False,
        choices=[
            ("", "goes by the card"),
            *((code, decline.message) for code, decline in DECLINES.items()),
        ],
    )

    class Meta:
        model = Steering
        fields = ["next_charge", "dunning_end"]
        labels = {"dunning_end": "When all retries have failed"}
        help_texts = {"dunning_end": ""}


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    context = {
        "rows": _rows(),
        "sessions": _open_checkouts(),
        "deliveries": delivery_counts(),
        "faults": Fault.objects.exclude(times_left=0).order_by("id"),
        "fault_kinds": Fault.Kind.choices,
    }
    return show(request, "control", context)


@never_cache
@require_safe
def customer(request: HttpRequest, id: str) -> HttpResponse:
    customer = found("customer", id)
    if customer is None:
        return _unknown(request)
    passing.let_pass(id)
    customer.refresh_from_db()
    due = passing.next_due(id)
    sessions = StripeObject.objects.of("checkout.session").filter(customer_id=id)
    context = {
        "overview": Overview.of(customer),
        "now": clock.now(id),
        "ahead_s": clock.ahead_s(id),
        "due_at": due.due_at if due else None,
        "due_what": _HAPPENINGS[due.kind] if due else "",
        "form": SteeringForm(instance=Steering.objects.filter(pk=id).first()),
        "sessions": [s.body for s in sessions.filter(body__status="open").order_by("-serial")],
        "steps": _STEPS,
    }
    return show(request, "control_customer", context)


@require_POST
def turn(request: HttpRequest, id: str) -> HttpResponse:
    """Advance a customer's clock: by a step, to the next renewal, or to the next change."""
    if found("customer", id) is None:
        return _unknown(request)
    to = _moment(id, request.POST.get("by", ""))
    if to is None:
        messages.error(request, "Nothing will happen to this customer by itself.")
    else:
        passing.turn(id, max(to, clock.now(id)))
    return redirect("sandbox-payments:customer", id)


@require_POST
def steer(request: HttpRequest, id: str) -> HttpResponse:
    if found("customer", id) is None:
        return _unknown(request)
    form = SteeringForm(request.POST, instance=Steering.objects.filter(pk=id).first())
    form.instance.customer_id = id
    if form.is_valid():
        form.save()
        messages.success(request, "Saved.")
    return redirect("sandbox-payments:customer", id)


@require_POST
def subscription(request: HttpRequest, id: str) -> HttpResponse:
    """Change a customer's subscription as an operator does in Stripe's dashboard."""
    live = subscribing.live_of(id).first()
    if live is None:
        return _unknown(request)
    with writing():
        match request.POST.get("do"):
            case "cancel":
                subscribing.cancel(live, invoice_now=True)
            case "cancel_at_period_end":
                subscribing.cancel_at_period_end(live, wanted=True)
            case "go_on":
                subscribing.cancel_at_period_end(live, wanted=False)
    return redirect("sandbox-payments:customer", id)


@require_POST
def fault(request: HttpRequest) -> HttpResponse:
    """Make all requests fail, or stop that."""
    kind = request.POST.get("kind", "")
    if kind in Fault.Kind.values:
        steering.fail(Fault.Kind(kind))
    else:
        Fault.objects.all().delete()
    return redirect("sandbox-payments:control")


def _rows() -> list[dict[str, Any]]:
    """Return the newest customers, each with the newest of its subscriptions."""
    customers = StripeObject.objects.of("customer").order_by("-serial")[:_SHOWN_CUSTOMERS]
    ids = [customer.id for customer in customers]
    found = StripeObject.objects.of("subscription").filter(customer_id__in=ids)
    newest = {each.customer_id: each.body for each in found.order_by("serial")}
    return [
        {
            "customer": customer.body,
            "subscription": (body := newest.get(customer.id)),
            "period_end": body and period_of(body).end,
        }
        for customer in customers
    ]


def _open_checkouts() -> list[dict[str, Any]]:
    """Return the newest open checkout pages, each with its customer."""
    sessions = StripeObject.objects.of("checkout.session").filter(body__status="open")
    newest = sessions.order_by("-serial")[:_SHOWN_CHECKOUTS]
    customers = StripeObject.objects.filter(id__in=[each.customer_id for each in newest])
    emails = {customer.id: customer["email"] for customer in customers}
    return [
        each.body | {"who": emails.get(each.customer_id) or each.customer_id} for each in newest
    ]


def _moment(customer_id: str, by: str) -> int | None:
    """Return the target time of a customer's clock."""
    now = clock.now(customer_id)
    if by in _STEPS:
        return now + _STEPS[by]
    if by == "renewal":
        end = Overview.of(find("customer", customer_id)).period_end
        return end + invoicing.DRAFT_S if end else None
    due = passing.next_due(customer_id)
    return due.due_at if due else None


def _unknown(request: HttpRequest) -> HttpResponse:
    return closed(
        request, "There is no such customer", "Or there is nothing left of it to steer.", status=404
    )
