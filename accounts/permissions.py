"""Permissions: what an account must be to be served."""

from __future__ import annotations

from typing import cast

from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import Account
from core.errors import ApiError, Refusals


class IsActive(IsAuthenticated):
    """Allows active accounts; tells others what to do (402 or 403)."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        require_active(cast(Account, request.user))
        return True

    def refusals(self, http_method: str) -> Refusals:
        """Return the errors for the API's description."""
        return {
            402: {"payment_required": "The account is not active yet. Complete the checkout."},
            403: {"account_suspended": "The account is suspended."},
        }


class IsActiveOrReadOnly(IsActive):
    """Allows every account to read, and active accounts to write."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS:
            return IsAuthenticated.has_permission(self, request, view)
        return super().has_permission(request, view)

    def refusals(self, http_method: str) -> Refusals:
        return {} if http_method in SAFE_METHODS else super().refusals(http_method)


def may_operate_on(operator: Account, account: Account) -> bool:
    """Return True if an operator may change an account at all, given other permissions.

    Only superusers may change an operator's account, even their own: with its password or email
    address comes everything that its owner may do.
    """
    return operator.is_superuser or not (account.is_staff or account.is_superuser)


def require_active(account: Account) -> None:
    """Raise 402 ``payment_required`` or 403 ``account_suspended`` unless the account is active."""
    match account.effective_status:
        case Account.Status.INACTIVE:
            raise ApiError(
                402,
                "payment_required",
                "This account is not active yet. Complete the checkout, then try again.",
            )
        case Account.Status.SUSPENDED:
            remedy = (
                "Contact support."
                if account.suspended_by_operator
                else "Update your payment method in the billing portal, then try again."
            )
            raise ApiError(403, "account_suspended", f"This account is suspended. {remedy}")
