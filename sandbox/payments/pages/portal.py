"""The billing portal, in which a customer sees and changes a subscription."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from sandbox.payments.business import clock, passing, subscribing
from sandbox.payments.business.customers import set_card
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find, writing
from sandbox.payments.pages.common import CardForm, closed, found, show
from sandbox.payments.pages.overview import Overview
from sandbox.payments.templatetags.stripe_text import day
from sandbox.payments.wire.errors import Refusal

LIFE_S = clock.HOUR


@dataclass(frozen=True, slots=True)
class Visit:
    """A customer with a valid portal session."""

    session: StripeObject
    customer: StripeObject
    configuration: StripeObject

    @property
    def features(self) -> dict[str, Any]:
        """Return what the portal's configuration lets customers do."""
        return dict(self.configuration["features"])

    def may(self, feature: str) -> bool:
        """Return True if the portal's configuration lets customers do it."""
        return bool(self.features[feature]["enabled"])


View = Callable[[HttpRequest, Visit], HttpResponse]


def _visited(view: View) -> Callable[[HttpRequest, str], HttpResponse]:
    """Admit customers with a session, and tell others why they are refused."""

    @wraps(view)
    def visit(request: HttpRequest, id: str) -> HttpResponse:
        session = found("billing_portal.session", id)
        customer = session and found("customer", session["customer"])
        if session is None or customer is None:
            return closed(
                request,
                "There is no such page",
                "The address is not that of a billing portal. Ask for another one where you came "
                "from.",
                status=404,
            )
        if session["created"] + LIFE_S < clock.real():
            return closed(
                request,
                "This page has expired",
                "For your safety a billing portal is there for an hour. Ask for another one where "
                "you came from.",
                back=session["return_url"],
                status=410,
            )
        passing.let_pass(customer.id)
        configuration = find("billing_portal.configuration", session["configuration"])
        return view(request, Visit(session, customer, configuration))

    return never_cache(visit)


@_visited
@require_http_methods(["GET", "HEAD"])
def page(request: HttpRequest, visit: Visit) -> HttpResponse:
    context = {
        "session": visit.session.body,
        "headline": visit.configuration["business_profile"]["headline"],
        "features": visit.features,
        "overview": Overview.of(visit.customer),
    }
    return show(request, "portal", context)


@_visited
@require_http_methods(["GET", "HEAD", "POST"])
def card(request: HttpRequest, visit: Visit) -> HttpResponse:
    """Set another card for the subscription."""
    if not visit.may("payment_method_update"):
        return _not_offered(request, visit)
    form = CardForm(request.POST if request.method == "POST" else None)
    problem = ""
    if form.is_valid():
        try:
            with writing():
                set_card(visit.customer, form.card)
        except Refusal as refusal:
            problem = str(refusal)
        else:
            messages.success(request, "Your card was saved. Invoices are paid with it from now on.")
            return _back(visit)
    status = 402 if problem else 400 if form.is_bound else 200
    context = {"session": visit.session.body, "card": form, "problem": problem}
    return show(request, "portal_card", context, status=status)


@_visited
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: HttpRequest, visit: Visit) -> HttpResponse:
    """Cancel, after a confirmation."""
    subscription = subscribing.live_of(visit.customer.id).first()
    if not visit.may("subscription_cancel") or subscription is None:
        return _not_offered(request, visit)
    is_at_end = visit.features["subscription_cancel"]["mode"] == "at_period_end"
    if request.method != "POST":
        context = {
            "session": visit.session.body,
            "is_at_end": is_at_end,
            "overview": Overview.of(visit.customer),
        }
        return show(request, "portal_cancel", context)
    with writing():
        if is_at_end:
            subscribing.cancel_at_period_end(subscription, wanted=True)
        else:
            subscribing.cancel(subscription, invoice_now=True)
    goes_on = f" It goes on until {day(subscription['cancel_at'])}." if is_at_end else ""
    messages.success(request, f"Your subscription was cancelled.{goes_on}")
    return _back(visit)


@require_POST
@_visited
def resume(request: HttpRequest, visit: Visit) -> HttpResponse:
    """Undo the cancellation."""
    subscription = subscribing.live_of(visit.customer.id).first()
    if subscription is None:
        return _not_offered(request, visit)
    with writing():
        subscribing.cancel_at_period_end(subscription, wanted=False)
    messages.success(request, "Your subscription goes on.")
    return _back(visit)


def _back(visit: Visit) -> HttpResponse:
    return redirect("sandbox-payments:portal", visit.session.id)


def _not_offered(request: HttpRequest, visit: Visit) -> HttpResponse:
    return closed(
        request,
        "This cannot be done here",
        "The portal does not offer it, or there is no subscription (any more).",
        back=visit.session["url"],
        status=409,
    )
