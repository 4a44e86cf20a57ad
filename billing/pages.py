"""Where Stripe's pages lead back to. They say what comes next, and change nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from core.pages import page


@dataclass(frozen=True, slots=True)
class Back:
    """What a page says, and the request to the API that tells more, or goes on from there."""

    title: str
    text: str
    call: str
    answer: str


_PAGES = {
    "checkout-paid": Back(
        "Payment received",
        "Thank you. Your account becomes active in a moment: as soon as Stripe has told us.",
        call="GET /api/account",
        answer="says ACTIVE then, and you can register your number.",
    ),
    "checkout-left": Back(
        "Nothing was paid",
        "Your account is as it was. You can pay whenever you like.",
        call="POST /api/billing/checkout",
        answer="gives you the address of the page.",
    ),
    "portal-left": Back(
        "Back from billing",
        "What you have changed counts in a moment: as soon as Stripe has told us.",
        call="GET /api/billing/subscription",
        answer="says where your subscription stands.",
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
