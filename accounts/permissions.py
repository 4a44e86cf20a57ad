"""What an account must be to be served."""

from __future__ import annotations

from typing import cast

from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import Account
from core.errors import ApiError, Refusals


class IsActive(IsAuthenticated):
    """Lets active accounts pass; others learn what to do about it (402 or 403)."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        require_active(cast(Account, request.user))
        return True

    def refusals(self, http_method: str) -> Refusals:
        """What the API's description says of this class."""
        return {
            402: {"payment_required": "The account is not active yet: complete the checkout."},
            403: {"account_suspended": "The account is suspended."},
        }


class IsActiveOrReadOnly(IsActive):
    """Lets every account read, and active ones write."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS:
            return IsAuthenticated.has_permission(self, request, view)
        return super().has_permission(request, view)

    def refusals(self, http_method: str) -> Refusals:
        return {} if http_method in SAFE_METHODS else super().refusals(http_method)


def may_operate_on(operator: Account, account: Account) -> bool:
    """Whether an operator may do anything to an account, with whatever permissions they have.

    Only superusers may where it is an operator's: its password or its address would open all that
    its owner may do. That goes for an operator's own account as well.
    """
    return operator.is_superuser or not (account.is_staff or account.is_superuser)


def require_active(account: Account) -> None:
    """Raise 402 ``payment_required`` or 403 ``account_suspended`` unless the account is active."""
    match account.effective_status:
        case Account.Status.INACTIVE:
            raise ApiError(
                402,
                "payment_required",
                "This account is not active yet: complete the checkout, then try again.",
            )
        case Account.Status.SUSPENDED:
            remedy = (
                "contact support."
                if account.suspended_by_operator
                else "update your payment method in the billing portal, then try again."
            )
            raise ApiError(403, "account_suspended", f"This account is suspended: {remedy}")
