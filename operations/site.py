"""Access to the admin: operators with a second factor, for twelve hours after they sign in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from accounts.models import Account
from accounts.proofs import began_too_long_ago, has_shown_second_factor
from accounts.second_factors import has_second_factor
from accounts.sudo import needs_sudo, to_second_step

View = Callable[..., HttpResponseBase]
AnyView = TypeVar("AnyView", bound=View)

# Every POST to the pages of these models can change rights.
_RIGHTS = ("accounts_account_", "auth_group_", "auth_user_")


def for_operators(view: View) -> View:
    """Serve operators who have shown a second factor; redirect others to what is missing."""
    return staff_member_required(_with_second_factor(view))


def _with_second_factor(view: View) -> View:
    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _way_in(request) or view(request, *args, **kwargs)

    return served


def _way_in(request: HttpRequest) -> HttpResponseRedirect | None:
    """Return a redirect to what an operator has to do first, or None."""
    account = cast(Account, request.user)
    if not (account.is_active and account.is_staff):
        return None  # the admin rejects them
    if began_too_long_ago(request.session):
        logout(request)
        return redirect_to_login(request.get_full_path())
    if not has_second_factor(account):
        messages.warning(request, "Operators need a second factor to use the admin. Add one.")
        here = urlencode({"next": request.get_full_path()})
        return redirect(f"{reverse('second-factor')}?{here}")
    if not has_shown_second_factor(request.session):
        return to_second_step(request)
    return None


class OperatorSite(AdminSite):
    """The admin, with sudo mode before any change of rights."""

    site_header = "Switchhook"
    site_title = "Switchhook"
    index_title = "Operations"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        # It bypasses the services, and with them the audit log.
        self.disable_action("delete_selected")

    def admin_view(self, view: AnyView, cacheable: bool = False) -> AnyView:
        plain = super().admin_view(view, cacheable)
        with_sudo = needs_sudo(plain)

        @_with_second_factor
        @wraps(view)
        def served(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            inner = with_sudo if _changes_rights(request) else plain
            return inner(request, *args, **kwargs)

        return cast(AnyView, served)


def _changes_rights(request: HttpRequest) -> bool:
    name = request.resolver_match.url_name if request.resolver_match else None
    is_operator = bool(getattr(request.user, "is_staff", False))
    return is_operator and request.method == "POST" and (name or "").startswith(_RIGHTS)
