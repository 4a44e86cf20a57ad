"""Checkout: the page on which a customer subscribes and pays."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from sandbox.payments.business import checkouts, passing
from sandbox.payments.models import StripeObject
from sandbox.payments.objects import find, writing
from sandbox.payments.pages.common import CardForm, closed, found, product_name, show
from sandbox.payments.wire.errors import Refusal


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, id: str) -> HttpResponse:
    session = found("checkout.session", id)
    if session is None:
        return closed(
            request,
            "There is no such page",
            "The address is not that of a checkout. Ask for another one where you came from.",
            status=404,
        )
    passing.let_pass(session.customer_id)
    session.refresh_from_db()
    if session["status"] != "open":
        return _over(request, session)
    if request.method == "POST":
        return _pay(request, session)
    return _offer(request, session, CardForm())


def _over(request: HttpRequest, session: StripeObject) -> HttpResponse:
    if session["status"] == "complete":
        return closed(
            request,
            "This has been paid",
            "You are all set: there is nothing more to pay here.",
            back=_success_url(session),
            status=200,
        )
    return closed(
        request,
        "This page has expired",
        "A checkout is there for a day. Nothing was charged. Ask for another one where you came "
        "from.",
        back=session["cancel_url"],
        status=410,
    )


def _offer(
    request: HttpRequest, session: StripeObject, card: CardForm, *, problem: str = ""
) -> HttpResponse:
    context = {
        "session": session.body,
        "customer": find("customer", session.customer_id).body,
        "items": [item | {"name": product_name(item)} for item in session.hidden["items"]],
        "card": card,
        "problem": problem,
    }
    status = 402 if problem else 400 if card.is_bound else 200
    return show(request, "checkout", context, status=status)


def _pay(request: HttpRequest, session: StripeObject) -> HttpResponse:
    card = CardForm(request.POST)
    if not card.is_valid():
        return _offer(request, session, card)
    try:
        with writing():
            checkouts.complete(find("checkout.session", session.id), card.card)
    except Refusal as refusal:
        return _offer(request, session, card, problem=str(refusal))
    return HttpResponseRedirect(_success_url(session))


def _success_url(session: StripeObject) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session.id)
