"""Where Stripe's pages lead back to. They say what comes next, and change nothing."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from config.pages import page

_TEXTS = {
    "checkout-paid": (
        "Payment received",
        "Thank you. Your account becomes active in a moment: as soon as Stripe has told us.",
    ),
    "checkout-left": (
        "Nothing was paid",
        "Your account is as it was. Ask for another checkout whenever you like.",
    ),
    "portal-left": ("Back from billing", "What you changed at Stripe shows here in a moment."),
}


@require_safe
def back_from_stripe(request: HttpRequest, name: str) -> HttpResponse:
    title, text = _TEXTS[name]
    return page(request, "billing/back_from_stripe.html", {"title": title, "text": text})


urlpatterns = [
    path("checkout/paid", back_from_stripe, {"name": "checkout-paid"}, name="checkout-paid"),
    path("checkout/left", back_from_stripe, {"name": "checkout-left"}, name="checkout-left"),
    path("portal/left", back_from_stripe, {"name": "portal-left"}, name="portal-left"),
]
