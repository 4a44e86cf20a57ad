"""Access to pages: customers who are signed in see what is theirs and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import resolve, reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails
from rest_framework.permissions import SAFE_METHODS

from accounts.models import Account
from accounts.permissions import require_active
from accounts.sudo import VIEW_ONLY
from core.errors import ApiError, unknown_path
from core.pages import error_page, page_of_form, prefers_html
from core.zones import zone_of
from operations.impersonation import Ending, leave, visited_in


class PageRequest(HttpRequest):
    """A request to a view of the dashboard; ``user`` is the customer's account."""

    user: Account
    operator: Account | None  # the operator who views it as the customer
    htmx: HtmxDetails


View = Callable[..., HttpResponseBase]


def for_customer(view: View) -> View:
    """Require a session, and keep browsers from caching the page, whose times are in the
    account's time zone.

    An operator may view it as a customer (``operations.impersonation``), but change nothing.

    An ``ApiError`` that the view does not handle becomes an error page with its message, such as
    404 for an object of another account. A browser that opens the address of a form gets the page
    above it.
    """

    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        customer = visited_in(request)
        if isinstance(customer, Ending):
            return _to(request, leave(request, customer))
        request.operator = request.user if customer else None  # type: ignore[attr-defined]
        if customer:
            request.user = customer
            if request.method not in SAFE_METHODS:
                return change_refused(request)
        with timezone.override(zone_of(request.user.time_zone)):
            try:
                response = view(request, *args, **kwargs)
            except ApiError as refusal:
                if refusal.code == VIEW_ONLY:
                    return change_refused(request)
                status = refusal.status_code
                return error_page(request, status, refusal.message, has_frame=bool(customer))
        if isinstance(response, HttpResponseNotAllowed) and _is_opened(request):
            return redirect(_page_above(request.path))
        return response

    return never_cache(served)


def change_refused(request: HttpRequest) -> HttpResponseBase:
    """Tell an operator who views as a customer what was not done, on the page where it was tried.

    A script gets the sentence as text.
    """
    name = request.resolver_match.url_name if request.resolver_match else None
    what = CHANGES.get(name or "", "change anything")
    text = f"You can't {what} while you view as {request.user}. Nothing was changed."
    if not (prefers_html(request) or request.htmx):  # type: ignore[attr-defined]
        return HttpResponse(text, status=403, content_type="text/plain; charset=utf-8")
    messages.error(request, text)
    page = page_of_form(request)
    return _to(request, _page_above(request.path) if page == request.get_full_path() else page)


# What an operator who views as a customer may try, by the name of its URL.
CHANGES = {
    "call-hang-up": "hang up the call",
    "callback-resend": "send the callback again",
    "callback-send": "send the callback",
    "callbacks-send": "send the callbacks",
    "change-company": "change the company name",
    "change-email": "change the email address",
    "change-emails": "change the emails",
    "change-webhook": "change the notification webhook",
    "change-password": "change the password",
    "change-time-zone": "change the time zone",
    "checklist": "hide or show the checklist",
    "confirm-email": "confirm the email address",
    "dashboard-billing-limit": "change the spending limit",
    "dashboard-billing-manage": "open the billing portal",
    "dashboard-billing-pay": "pay",
    "delete-account": "delete the account",
    "key-new": "create an API key",
    "key-revoke": "revoke the API key",
    "number": "change the number",
    "number-account": "confirm the Twilio account",
    "number-check": "check the number at Twilio",
    "number-new": "register a number",
    "number-remove": "remove the number",
    "numbers-connect": "connect numbers of a Twilio account",
    "remove-webhook": "remove the notification webhook",
    "second-factor-app": "add an authenticator app",
    "second-factor-codes": "create recovery codes",
    "second-factor-passkey": "add a passkey",
    "second-factor-remove": "remove the second factor",
    "send-confirmation": "send the confirmation email",
    "sign-out-everywhere": "sign out everywhere",
    "test-call-check": "check the callback",
    "test-call-give-up": "end the test call",
    "test-call-start": "start a test call",
    "test-webhook": "send a test message",
    "webhook-secret": "show the webhook secret",
    "webhook-secret-rotate": "rotate the webhook secret",
}


def _to(request: HttpRequest, path: str) -> HttpResponseBase:
    """Redirect the whole page, also if htmx asked for a part of it."""
    is_part = request.htmx  # type: ignore[attr-defined]
    return HttpResponseClientRedirect(path) if is_part else redirect(path)


def _to_sign_in(request: HttpRequest) -> HttpResponseBase:
    """Redirect to the sign-in, which leads back; from a form, to the page that it is on.

    ``static/drafts.js`` keeps what was typed.
    """
    if request.method in SAFE_METHODS:
        return redirect_to_login(request.get_full_path())
    messages.warning(request, "Your session has ended, so nothing was saved. Sign in to continue.")
    return redirect_to_login(page_of_form(request))


def _is_opened(request: HttpRequest) -> bool:
    return request.method in ("GET", "HEAD") and prefers_html(request)


def _page_above(path: str) -> str:
    """Return the nearest path above that has a view, else the overview."""
    above = path.rpartition("/")[0]
    while above and resolve(above).func is unknown_path:
        above = above.rpartition("/")[0]
    return above or reverse("overview")


def reason_not_active(account: Account) -> str:
    """Return a sentence on what an account must do to become active; "" if it is active."""
    try:
        require_active(account)
    except ApiError as refusal:
        return refusal.message
    return ""
