"""Access to pages: customers who are signed in see what is theirs and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django_htmx.middleware import HtmxDetails
from rest_framework.permissions import SAFE_METHODS

from accounts.models import Account
from accounts.permissions import require_active
from core.errors import ApiError
from core.pages import error_page
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
    404 for an object of another account.
    """

    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
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
        with timezone.override(zone_of(request.user.time_zone)):  # type: ignore[union-attr]
            try:
                return view(request, *args, **kwargs)
            except ApiError as refusal:
                return error_page(request, refusal.status_code, refusal.message)

    return never_cache(login_required(served))


def reason_not_active(account: Account) -> str:
    """Return a sentence on what an account must do to become active; "" if it is active."""
    try:
        require_active(account)
    except ApiError as refusal:
        return refusal.message
    return ""
