"""Access to pages: customers who are signed in see what is theirs and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import resolve, reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django_htmx.middleware import HtmxDetails
from rest_framework.permissions import SAFE_METHODS

from accounts.models import Account
from accounts.permissions import require_active
from core.errors import ApiError, unknown_path
from core.pages import error_page, page_of_form, prefers_html
from core.zones import zone_of
from operations.impersonation import impersonated_by


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
        customer = impersonated_by(request)
        request.operator = request.user if customer else None  # type: ignore[attr-defined]
        if customer:
            if request.method not in SAFE_METHODS:
                return error_page(
                    request,
                    403,
                    "You are viewing this dashboard as a customer, so you can't change anything.",
                )
            request.user = customer
        with timezone.override(zone_of(request.user.time_zone)):
            try:
                response = view(request, *args, **kwargs)
            except ApiError as refusal:
                return error_page(request, refusal.status_code, refusal.message)
        if isinstance(response, HttpResponseNotAllowed) and _is_opened(request):
            return redirect(_page_above(request.path))
        return response

    return never_cache(served)


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
