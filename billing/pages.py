"""The pages that Stripe redirects back to. They say what comes next and change nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from core.pages import page


@dataclass(frozen=True, slots=True)
class Back:
    """The text of a page, and the API request for the next step."""

    title: str
    text: str
    call: str
    answer: str


_PAGES = {
    "checkout-paid": Back(
        "Payment received",
        "Thank you. Your account becomes active as soon as Stripe confirms the payment.",
        call="GET /api/account",
        answer="then returns ACTIVE, and you can register your number.",
    ),
    "checkout-left": Back(
        "Payment not completed",
        "Nothing was charged. You can pay at any time.",
        call="POST /api/billing/checkout",
        answer="returns the URL of the checkout page.",
    ),
    "portal-left": Back(
        "Back from billing",
        "Your changes take effect as soon as Stripe confirms them.",
        call="GET /api/billing/subscription",
        answer="returns your subscription's status.",
    ),
}


@require_safe
def back_from_stripe(request: HttpRequest, name: str) -> HttpResponse:
    return page(request, "billing/back_from_stripe.html", asdict(_PAGES[name]))


urlpatterns = [
    path("checkout/paid", back_from_stripe, {"name": "checkout-paid"}, name="checkout-paid"),
    path("checkout/left", back_from_stripe, {"name": "checkout-left"}, name="checkout-left"),
    path("portal/left", back_from_stripe, {"name": "portal-left"}, name="portal-left"),
]
