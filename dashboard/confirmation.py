"""Confirming an email address: the emailed link, and sending it again."""

from __future__ import annotations

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from accounts.links import require_verification_token
from accounts.mails import VERIFY_EMAIL, mail_queue
from accounts.services import email_verify
from accounts.throttling import mail_request
from billing.closing import customer_update_soon
from core.errors import ApiError
from dashboard.access import PageRequest, for_customer
from dashboard.rendering import dashboard_page
from dashboard.sessions import next_of

CONFIRMATIONS = "confirmations"
"""The name under which ``accounts.throttling`` counts these emails."""


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: PageRequest, token: str) -> HttpResponse:
    """Confirm the address on POST, so that a scanner that follows links in emails changes nothing.

    Requires a session: somebody else may have entered the address.
    """
    account = request.user
    if account.is_email_verified and _is_theirs(request, token):
        messages.success(request, f"{account.email} is confirmed.")
        return redirect("overview")
    require_verification_token(account, token)
    if request.method != "POST":
        return dashboard_page(
            request, "settings", "dashboard/confirm_email.html", {"asks_to_confirm": False}
        )
    with transaction.atomic():
        email_verify(account=account, token=token)
        # Stripe gets the company's name only once the address is confirmed.
        customer_update_soon(account=account)
    messages.success(request, f"Thanks! {account.email} is confirmed.")
    return redirect("overview")


@for_customer
@require_POST
def send_again(request: PageRequest) -> HttpResponse:
    account = request.user
    try:
        if not account.is_email_verified:
            mail_request(request, what=CONFIRMATIONS, to=account.email)
            mail_queue(account=account, name=VERIFY_EMAIL)
    except ApiError as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, f"We sent a link to {account.email}. Check your email.")
    return HttpResponseRedirect(next_of(request))


def _is_theirs(request: PageRequest, token: str) -> bool:
    try:
        require_verification_token(request.user, token)
    except ApiError as refusal:
        return refusal.code == "link_expired"
    return True


urlpatterns = [
    path("email/confirm", send_again, name="send-confirmation"),
    path("email/confirm/<str:token>", confirm, name="confirm-email"),
]
