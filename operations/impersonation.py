"""Impersonation: operators view the dashboard as a customer. It is logged, and read-only."""

from __future__ import annotations

from typing import cast

import structlog
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods, require_POST

from accounts.audit import Action, audit
from accounts.models import Account
from accounts.permissions import may_operate_on
from accounts.proofs import began_too_long_ago, has_shown_second_factor
from accounts.sudo import needs_sudo
from core.pages import page
from operations.site import for_operators

log = structlog.get_logger(__name__)

_SESSION_KEY = "impersonates"
_MAY = "accounts.change_account"


def impersonated_by(request: HttpRequest) -> Account | None:
    """Return the customer whose dashboard the operator is viewing, or None."""
    account_id = request.session.get(_SESSION_KEY)
    if not account_id or not _may_impersonate(request):
        return None
    account = Account.objects.filter(pk=account_id, is_superuser=False).first()
    return account if account and may_operate_on(cast(Account, request.user), account) else None


@for_operators
@require_http_methods(["GET", "HEAD", "POST"])
@needs_sudo
def impersonate(request: HttpRequest, account_id: str) -> HttpResponse:
    """Ask on GET, and open the account's dashboard on POST."""
    if not _may_impersonate(request):
        raise PermissionDenied
    account = get_object_or_404(Account, pk=account_id, is_superuser=False)
    operator = cast(Account, request.user)
    if not may_operate_on(operator, account):
        raise PermissionDenied
    if request.method != "POST":
        return page(request, "operations/impersonate.html", {"account": account})
    with transaction.atomic():
        LogEntry.objects.log_actions(
            operator.pk,
            [account],
            CHANGE,
            "Viewed the dashboard as this customer.",
            single_object=True,
        )
        audit(account=account, action=Action.VIEWED)
    log.warning("impersonated", account_id=account.id, operator=operator.id)
    request.session[_SESSION_KEY] = account.id
    return redirect("overview")


@require_POST
def stop(request: HttpRequest) -> HttpResponse:
    account_id = request.session.pop(_SESSION_KEY, None)
    return (
        redirect("admin:accounts_account_change", account_id) if account_id else redirect("landing")
    )


def _may_impersonate(request: HttpRequest) -> bool:
    may = bool(getattr(request.user, "is_staff", False) and request.user.has_perm(_MAY))
    is_over = began_too_long_ago(request.session)
    return may and has_shown_second_factor(request.session) and not is_over
