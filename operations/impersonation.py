"""Impersonation: operators view the dashboard as a customer, for half an hour and read-only.

The customer's audit log has the beginning and the end of each visit. A visit ends when the operator
stops it or signs out, or when its time or the right to it is over (:class:`Ending`); a job notes
the end if no request comes after it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, cast

import structlog
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from accounts.actors import Actor, ActorKind, Origin
from accounts.audit import Action, AuditEvent, audit, audit_by
from accounts.models import Account
from accounts.permissions import may_operate_on
from accounts.proofs import OPERATORS_STAY, began_too_long_ago, has_shown_second_factor
from accounts.sudo import needs_sudo
from core.ids import made_at, new_id
from core.pages import page
from core.queue.jobs import defer
from operations.site import for_operators

log = structlog.get_logger(__name__)

LASTS = timedelta(minutes=30)
END_TASK = "operations.tasks.end_visit"

_SESSION_KEY = "impersonates"
_MAY = "accounts.change_account"
# How far the clocks of two servers may differ.
_SKEW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Visit:
    """An operator's visit to a customer's dashboard, as it is in the operator's session.

    ``until`` is in seconds since 1970.
    """

    id: str
    account_id: str
    operator_id: str
    operator_email: str
    until: float

    @property
    def ends_at(self) -> datetime:
        return datetime.fromtimestamp(self.until, UTC)


@dataclass(frozen=True, slots=True)
class Viewing:
    """A visit in progress: what the banner says."""

    customer: Account
    ends_at: datetime


class Ending(StrEnum):
    """Why a visit is over that nobody has stopped, as the customer's audit log says it."""

    TIME_LIMIT = "time limit"
    OLD_SIGN_IN = "sign-in expired"
    NO_PERMISSION = "permission removed"
    OPERATORS_ACCOUNT = "account belongs to an operator"


# The same, to the operator.
_REASONS = {
    Ending.TIME_LIMIT: f"a visit ends after {LASTS // timedelta(minutes=1)} minutes",
    Ending.OLD_SIGN_IN: f"you signed in more than {OPERATORS_STAY // timedelta(hours=1)} hours ago",
    Ending.NO_PERMISSION: "you no longer have permission",
    Ending.OPERATORS_ACCOUNT: "the account now belongs to an operator",
}


def visit_of(request: HttpRequest) -> Visit | None:
    """Return the visit in the session, even if it is over.

    One with other fields, which another release stored, is dropped. Its job notes the end.
    """
    kept = request.session.get(_SESSION_KEY)
    if kept is None:
        return None
    try:
        return Visit(**kept)
    except TypeError:
        del request.session[_SESSION_KEY]
        return None


def visited_in(request: HttpRequest) -> Account | Ending | None:
    """Return the customer whose dashboard the operator is viewing, or why that is over.

    None if there is no visit.
    """
    visit = visit_of(request)
    if visit is None:
        return None
    if visit.ends_at <= timezone.now():
        return Ending.TIME_LIMIT
    if began_too_long_ago(request.session):
        return Ending.OLD_SIGN_IN
    if not _has_right(request):
        return Ending.NO_PERMISSION
    account = Account.objects.filter(pk=visit.account_id, is_superuser=False).first()
    if account is None or not may_operate_on(cast(Account, request.user), account):
        return Ending.OPERATORS_ACCOUNT
    return account


def viewing(request: HttpRequest) -> dict[str, Viewing | None]:
    """Add ``viewing`` to the context of every template, for the banner."""
    # The dashboard has put the customer in the operator's place.
    is_replaced = getattr(request, "operator", None) is not None
    visit = visit_of(request) if hasattr(request, "session") else None
    if visit is None:
        return {"viewing": None}
    customer = request.user if is_replaced else visited_in(request)
    is_on = isinstance(customer, Account)
    return {"viewing": Viewing(cast(Account, customer), visit.ends_at) if is_on else None}


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
        minutes = LASTS // timedelta(minutes=1)
        return page(
            request, "operations/impersonate.html", {"account": account, "minutes": minutes}
        )
    _end(request, "another visit began")
    with transaction.atomic():
        visit = visit_begin(account=account, operator=operator)
    log.warning("impersonated", account_id=account.id, operator=operator.id)
    request.session[_SESSION_KEY] = asdict(visit)
    return redirect("overview")


@require_POST
def stop(request: HttpRequest) -> HttpResponse:
    visit = _end(request, "stopped")
    return redirect(_page_of(visit)) if visit else redirect("landing")


def leave(request: HttpRequest, ending: Ending) -> str:
    """End a visit that is over; return the path to go to, which the operator may open."""
    visit = _end(request, ending)
    messages.warning(
        request,
        "You are no longer viewing the dashboard as a customer: "
        f"{_REASONS[ending]}. Nothing was changed.",
    )
    return _page_of(visit) if visit and _has_right(request) else reverse("overview")


def note_sign_out(sender: Any, request: HttpRequest | None, **_: Any) -> None:
    """End the visit of an operator who signs out (a receiver of ``user_logged_out``)."""
    if getattr(request, "session", None) is not None:
        _end(cast(HttpRequest, request), "signed out")


def visit_begin(*, account: Account, operator: Account) -> Visit:
    """Log the beginning, and queue a job for the end."""
    ends_at = timezone.now() + LASTS
    visit = Visit(new_id(), account.pk, operator.pk, operator.email, ends_at.timestamp())
    LogEntry.objects.log_actions(
        operator.pk,
        [account],
        CHANGE,
        "Viewed the dashboard as this customer.",
        single_object=True,
    )
    audit(account=account, action=Action.VIEWED, id=visit.id)
    defer(
        END_TASK,
        at=ends_at,
        account_id=account.pk,
        visit_id=visit.id,
        operator_id=operator.pk,
    )
    return visit


@transaction.atomic
def visit_end(*, account_id: str, visit_id: str, operator: Actor, how: str) -> None:
    """Log the end of a visit, once: its job and its operator may both come to it."""
    account = Account.objects.select_for_update(no_key=True).filter(pk=account_id).first()
    if account is None:
        return
    since = AuditEvent.objects.of(account).filter(created_at__gte=made_at(visit_id) - _SKEW)
    if not since.filter(action=Action.VIEW_ENDED, detail__id=visit_id).exists():
        audit_by(operator, account=account, action=Action.VIEW_ENDED, id=visit_id, how=how)


def _end(request: HttpRequest, how: str) -> Visit | None:
    visit = visit_of(request)
    request.session.pop(_SESSION_KEY, None)
    if visit is not None:
        operator = Actor(
            ActorKind.OPERATOR, visit.operator_id, visit.operator_email, Origin.of(request)
        )
        visit_end(account_id=visit.account_id, visit_id=visit.id, operator=operator, how=how)
    return visit


def _page_of(visit: Visit) -> str:
    return reverse("admin:accounts_account_change", args=[visit.account_id])


def _may_impersonate(request: HttpRequest) -> bool:
    return _has_right(request) and not began_too_long_ago(request.session)


def _has_right(request: HttpRequest) -> bool:
    may = bool(getattr(request.user, "is_staff", False) and request.user.has_perm(_MAY))
    return may and has_shown_second_factor(request.session)
