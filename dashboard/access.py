"""Who may see a page: the customer who is logged in, and nothing but what is theirs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django_htmx.middleware import HtmxDetails
from rest_framework.permissions import SAFE_METHODS

from accounts.models import Account
from accounts.permissions import require_active
from core.errors import ApiError
from core.pages import error_page
from operations.impersonation import impersonated_by


class PageRequest(HttpRequest):
    """A request as the dashboard's views get it: ``user`` is the customer's account."""

    user: Account
    operator: Account | None  # who looks at it in the place of the customer
    htmx: HtmxDetails


View = Callable[..., HttpResponseBase]


def for_customer(view: View) -> View:
    """Serve those who are logged in, others go to the login first; nothing is kept by a browser.

    An operator may look in the place of a customer (``operations.impersonation``), and only look.

    A refusal of a service that the view does not handle becomes a page with its sentence: what is
    another account's is not found.
    """

    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        customer = impersonated_by(request)
        request.operator = request.user if customer else None  # type: ignore[attr-defined]
        if customer:
            if request.method not in SAFE_METHODS:
                return error_page(request, 403, "An operator looks, and changes nothing.")
            request.user = customer
        try:
            return view(request, *args, **kwargs)
        except ApiError as refusal:
            return error_page(request, refusal.status_code, refusal.message)

    return never_cache(login_required(served))


def reason_not_active(account: Account) -> str:
    """Return what an account has to do before it is served, in a sentence; "" if it is active."""
    try:
        require_active(account)
    except ApiError as refusal:
        return refusal.message
    return ""
