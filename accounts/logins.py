"""Logging of sign-ins: each that succeeds, and one failed attempt an hour."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver

from accounts.actors import Actor, ActorKind, Origin, current_actor
from accounts.audit import Action, audit, audit_by
from accounts.models import Account
from accounts.throttling import is_first_in_an_hour
from core.queue.jobs import defer
from core.sealing import CannotUnseal, seal, unseal

FAILURE_TASK = "accounts.tasks.note_failed_login"
_PURPOSE = "failed-login"


@receiver(user_logged_in)
def session_note(sender: Any, user: Account, **kwargs: Any) -> None:
    """Log that a session begins, whichever page it begins on."""
    audit(account=user, action=Action.LOGGED_IN, where="dashboard")


def login_failure_note_soon(*, email: str) -> None:
    """Queue a job that logs a failed sign-in if the account exists.

    The job is queued either way, so that the response time reveals nothing.
    """
    sealed = seal(email.encode(), purpose=_PURPOSE).decode()
    defer(FAILURE_TASK, sealed_email=sealed, tried_from=asdict(current_actor().origin))


def login_failure_note(sealed_email: str, tried_from: Origin) -> None:
    try:
        email = unseal(sealed_email.encode(), purpose=_PURPOSE).decode()
    except CannotUnseal:
        return
    account = Account.objects.with_email(email).filter(is_active=True).first()
    if account and is_first_in_an_hour(account, what="failed logins"):
        visitor = Actor(ActorKind.VISITOR, origin=tried_from)
        audit_by(visitor, account=account, action=Action.LOGIN_FAILED)
