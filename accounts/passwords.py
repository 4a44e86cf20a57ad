"""A new password: for who knows the old one, and for who can read the account's mail."""

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
    """Raise 400 ``wrong_password`` unless it is the account's."""
    if not account.check_password(password):
        raise invalid({"current_password": ["This is not your password."]}, "wrong_password")


@sensitive_variables()
def password_change(*, account: Account, password: str) -> None:
    """Set another password: all sessions and tokens end; API keys stay. Raises as the check."""
    password_check(password, account)
    _password_set(account, password)


@sensitive_variables()
@transaction.atomic
def _password_set(account: Account, password: str) -> None:
    account.set_password(password)
    account.save(update_fields=["password"])
    mail_queue(account=account, name=PASSWORD_CHANGED)


class ChangesAreAudited:
    """Among Django's validators, for it tells them of each password that is saved in any way."""

    def validate(self, password: str, user: Account | None = None) -> None:
        """Take any."""

    def get_help_text(self) -> str:
        return "The change will appear in the account's activity."

    def password_changed(self, password: str, user: Account) -> None:
        audit(account=user, action=Action.PASSWORD_CHANGED)


def password_reset_ask(*, email: str) -> None:
    """Have a mail sent, if there is an account; the same is done whether or not there is one."""
    sealed = seal(email.encode(), purpose=_PURPOSE).decode()
    defer(RESET_TASK, sealed_email=sealed, asked_from=asdict(current_actor().origin))


def password_reset_send(sealed_email: str, asked_from: Origin) -> None:
    """Send a link to an address that was confirmed, and to another one why it gets none.

    Somebody who was registered with a stranger's address, by mistake, keeps the account: the
    stranger, who reads the mail, must not be able to take it.
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
    """Set the password by a link of ours, which holds once; raise 404 and ``ValidationError``."""
    password_check(password, _require_account(account_id, token))
    with transaction.atomic():
        account = _require_account(account_id, token, lock=True)
        _password_set(account, password)
        audit(account=account, action=Action.PASSWORD_RESET)
    return account


def _require_account(account_id: str, token: str, *, lock: bool = False) -> Account:
    account = account_to_reset(account_id, token, lock=lock)
    if account is None:
        raise ApiError(404, "link_invalid", "This link was used, or has expired: ask for another.")
    return account
