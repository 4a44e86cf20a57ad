"""Changing a password with the old one, and resetting it by email."""

from __future__ import annotations

from dataclasses import asdict

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.views.decorators.debug import sensitive_variables

from accounts.actors import Actor, ActorKind, Origin, current_actor
from accounts.audit import Action, audit, audit_by
from accounts.links import account_to_reset
from accounts.mails import (
    PASSWORD_CHANGED,
    PASSWORD_RESET,
    PASSWORD_RESET_UNCONFIRMED,
    mail_queue,
    mail_send,
)
from accounts.models import Account
from accounts.password_rules import MAX_PASSWORD_LENGTH
from core.errors import ApiError, invalid
from core.queue.jobs import defer
from core.sealing import CannotUnseal, seal, unseal

RESET_TASK = "accounts.tasks.send_password_reset"
_PURPOSE = "password-reset"


@sensitive_variables()
def password_check(password: str, account: Account) -> None:
    """Raise ``ValidationError`` at ``password`` if it is too long, or easy to guess.

    It may ask a service, for seconds: not within a transaction.
    """
    if len(password) > MAX_PASSWORD_LENGTH:
        problem = f"Use at most {MAX_PASSWORD_LENGTH} characters."
        raise ValidationError({"password": [problem]})
    try:
        validate_password(password, account)
    except ValidationError as error:
        raise ValidationError({"password": error.messages}) from None


@sensitive_variables()
def password_require(account: Account, password: str) -> None:
    """Raise 400 ``wrong_password`` unless it is the account's password."""
    if not account.check_password(password):
        raise invalid(
            {"current_password": ["This password is wrong. Try again."]}, "wrong_password"
        )


@sensitive_variables()
def password_change(*, account: Account, password: str) -> None:
    """Set a new password and end all sessions and tokens; API keys stay. Raises as the check."""
    password_check(password, account)
    _password_set(account, password)


@sensitive_variables()
@transaction.atomic
def _password_set(account: Account, password: str) -> None:
    account.set_password(password)
    account.save(update_fields=["password"])
    mail_queue(account=account, name=PASSWORD_CHANGED)


class ChangesAreAudited:
    """A validator that logs changes: Django calls it for each password that is saved in any way."""

    def validate(self, password: str, user: Account | None = None) -> None:
        """Accept any password."""

    def get_help_text(self) -> str:
        return "The change will appear in the account's activity."

    def password_changed(self, password: str, user: Account) -> None:
        audit(account=user, action=Action.PASSWORD_CHANGED)


def password_reset_ask(*, email: str) -> None:
    """Queue a reset email. The job is queued whether or not there is an account."""
    sealed = seal(email.encode(), purpose=_PURPOSE).decode()
    defer(RESET_TASK, sealed_email=sealed, asked_from=asdict(current_actor().origin))


def password_reset_send(sealed_email: str, asked_from: Origin) -> None:
    """Send a link to a confirmed address; send an unconfirmed one the reason why it gets none.

    If somebody signed up with a stranger's address by mistake, the stranger must not be able to
    take over the account.
    """
    try:
        email = unseal(sealed_email.encode(), purpose=_PURPOSE).decode()
    except CannotUnseal:
        return
    account = Account.objects.with_email(email).filter(is_active=True).first()
    if account:
        visitor = Actor(ActorKind.VISITOR, origin=asked_from)
        audit_by(visitor, account=account, action=Action.PASSWORD_RESET_ASKED)
        name = PASSWORD_RESET if account.is_email_verified else PASSWORD_RESET_UNCONFIRMED
        mail_send(account=account, name=name, context={})


@sensitive_variables()
def password_reset(*, account_id: str, token: str, password: str) -> Account:
    """Set the password with a link that is valid once; raise 404 or ``ValidationError``."""
    password_check(password, _require_account(account_id, token))
    with transaction.atomic():
        account = _require_account(account_id, token, lock=True)
        _password_set(account, password)
        audit(account=account, action=Action.PASSWORD_RESET)
    return account


def _require_account(account_id: str, token: str, *, lock: bool = False) -> Account:
    account = account_to_reset(account_id, token, lock=lock)
    if account is None:
        raise ApiError(404, "link_invalid", "This link was used or has expired. Request a new one.")
    return account
