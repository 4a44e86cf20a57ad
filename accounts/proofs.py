"""The proofs of identity in a session, and their times.

A session begins once the password and, if the account has one, the second factor are verified.
Between the two it is pending. Times are stored as seconds since 1970.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.auth import login
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.models import Account
from accounts.second_factors import has_second_factor

OPERATORS_STAY = timedelta(hours=12)
SUDO_HOLDS = timedelta(minutes=15)
PENDING_HOLDS = timedelta(minutes=10)

_BEGAN, _PROVEN, _SECOND_FACTOR, _PENDING = "began", "proven", "second_factor", "pending"


def session_begin(request: HttpRequest, account: Account, *, second_factor: bool = False) -> None:
    """Begin the session of somebody whose identity is verified."""
    request.session.pop(_PENDING, None)
    login(request, account, backend=settings.AUTHENTICATION_BACKENDS[0])
    session_mark(request.session, account, second_factor=second_factor)


def session_mark(session: SessionBase, account: Account, *, second_factor: bool) -> None:
    """Record what was verified at sign-in, and set the end of an operator's session.

    The end is fixed: using the session does not extend it.
    """
    now = timezone.now()
    session[_BEGAN] = session[_PROVEN] = now.timestamp()
    session[_SECOND_FACTOR] = second_factor
    session.set_expiry(now + OPERATORS_STAY if account.is_staff else None)


def began_too_long_ago(session: SessionBase) -> bool:
    """Return True if an operator has to sign in again, even one promoted during the session."""
    return _is_older(session, _BEGAN, OPERATORS_STAY)


def is_proven_anew(session: SessionBase) -> bool:
    """Return True if the identity was confirmed in the last minutes."""
    return not _is_older(session, _PROVEN, SUDO_HOLDS)


def prove_anew(session: SessionBase, *, second_factor: bool) -> None:
    session[_PROVEN] = timezone.now().timestamp()
    session[_SECOND_FACTOR] = second_factor or has_shown_second_factor(session)


def has_shown_second_factor(session: SessionBase) -> bool:
    return bool(session.get(_SECOND_FACTOR))


def owes_second_factor(request: HttpRequest, account: Account) -> bool:
    """Return True if the account added a second factor after this session began without one."""
    return not has_shown_second_factor(request.session) and has_second_factor(account)


def session_pend(request: HttpRequest, account: Account) -> None:
    """Keep the account that has given its password, until it shows the second factor.

    The session gets a new key, because somebody may know the one that the browser came with.
    """
    request.session.cycle_key()
    request.session[_PENDING] = {
        "account": account.pk,
        "password": account.get_session_auth_hash(),
        "since": timezone.now().timestamp(),
    }


def pending_account(request: HttpRequest) -> Account | None:
    """Return the account that gave its password minutes ago, unless the password has changed."""
    pending = request.session.get(_PENDING)
    if not pending or timezone.now().timestamp() - pending["since"] > PENDING_HOLDS.total_seconds():
        return None
    account = Account.objects.filter(pk=pending["account"], is_active=True).first()
    if account and constant_time_compare(account.get_session_auth_hash(), pending["password"]):
        return account
    return None


def _is_older(session: SessionBase, name: str, than: timedelta) -> bool:
    since = session.get(name)
    return since is None or timezone.now().timestamp() - since >= than.total_seconds()
