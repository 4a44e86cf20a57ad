"""What can be done to accounts, keys and secrets; what belongs together is one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from allauth.mfa.models import Authenticator
from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts.actors import current_actor
from accounts.audit import Action, audit
from accounts.email_addresses import normalize_email
from accounts.links import require_verification_token
from accounts.logins import login_failure_note_soon
from accounts.mails import ACCOUNT_DELETED, EMAIL_CHANGED, VERIFY_EMAIL, mail_queue
from accounts.models import (
    Account,
    ApiKey,
    WebhookSecret,
    digest_of,
    new_api_key,
    new_webhook_secret,
)
from accounts.passwords import password_check
from accounts.throttling import is_first_in_an_hour
from core.errors import ApiError, unauthorized

MAX_ACTIVE_KEYS = 100
# The domain of addresses that are nobody's (RFC 2606).
CLOSED = "closed.invalid"


class NewKey(NamedTuple):
    """A key at the only moment at which it exists in the clear."""

    api_key: ApiKey
    plain: str


class Rotation(NamedTuple):
    """The new secret, and until when the one before it is still signed with."""

    secret: str
    previous_valid_until: datetime


@sensitive_variables()
def account_register(*, email: str, password: str, company_name: str = "") -> NewKey:
    """Make an inactive account with its first API key; the key's ``account`` is the new one.

    Raises ``ValidationError`` with the fields that are wrong, and 409 ``email_taken``.
    """
    account = _prepared(email, password, company_name)
    with _email_free(email), transaction.atomic():
        Account.objects.add(account)
        audit(account=account, action=Action.REGISTERED)
        mail_queue(account=account, name=VERIFY_EMAIL)
        return _new_key(account, ApiKey.DEFAULT_LABEL)


@sensitive_variables()
def account_sign_up(*, email: str, password: str, company_name: str = "") -> Account:
    """Make an inactive account without a key: who signs up on a page makes one there, and sees it.

    Raises as :func:`account_register`.
    """
    account = _prepared(email, password, company_name)
    with _email_free(email), transaction.atomic():
        Account.objects.add(account)
        audit(account=account, action=Action.REGISTERED)
        mail_queue(account=account, name=VERIFY_EMAIL)
    return account


@sensitive_variables()
def account_authenticate(*, email: str, password: str) -> Account:
    """Return the account with that email and password; raise 401 ``invalid_credentials``.

    A password is hashed whether or not there is such an account, so that the time tells nothing.
    """
    account = authenticate(email=email, password=password)
    if not isinstance(account, Account):
        login_failure_note_soon(email=email)
        raise unauthorized(
            "invalid_credentials", "No account can log in with this email address and password."
        )
    return account


@transaction.atomic
def account_note_login(*, account: Account) -> None:
    """Note a login to the API, as is done by itself where a session begins."""
    update_last_login(Account, account)
    audit(account=account, action=Action.LOGGED_IN, where="API")


@transaction.atomic
def email_verify(*, account: Account, token: str) -> None:
    """Confirm the account's address by the link that was sent there; raise 404.

    The link proves whose address it is, and the caller whose account: with one of both alone,
    a stranger whose address somebody typed in could make the account theirs.
    """
    require_verification_token(account, token)
    unverified = Account.objects.filter(pk=account.pk, email=account.email, email_verified_at=None)
    if unverified.update(email_verified_at=timezone.now()):
        audit(account=account, action=Action.EMAIL_CONFIRMED, email=account.email)


@transaction.atomic
def email_change(*, account: Account, email: str) -> bool:
    """Give the account another address, to be confirmed again; the old one is told if it was.

    Returns False, and does nothing, if it is the same. Raises ``ValidationError`` and 409
    ``email_taken``.
    """
    before, was_confirmed = account.email, account.is_email_verified
    email = normalize_email(email)
    if email == before:
        return False
    account.email, account.email_verified_at = email, None
    account.clean_fields(exclude={"password"})
    with _email_free(email), transaction.atomic():
        account.save(update_fields=["email", "email_verified_at"])
    audit(account=account, action=Action.EMAIL_CHANGED, before=before, after=email)
    if was_confirmed:
        mail_queue(account=account, name=EMAIL_CHANGED, to=before)
    mail_queue(account=account, name=VERIFY_EMAIL)
    return True


@transaction.atomic
def company_rename(*, account: Account, company_name: str) -> None:
    before, account.company_name = account.company_name, company_name
    account.clean_fields(exclude={"password"})
    account.save(update_fields=["company_name"])
    audit(account=account, action=Action.COMPANY_RENAMED, before=before, after=company_name)


@transaction.atomic
def account_close(*, account: Account) -> None:
    """Disable an account for good, as its owner wishes: keys, sessions and tokens end.

    Its address, which is told if it was confirmed, is free for another account. What it has used
    stays, and so does who it was.
    """
    now = timezone.now()
    if account.is_email_verified:
        mail_queue(account=account, name=ACCOUNT_DELETED, to=account.email)
    account.api_keys.active().update(revoked_at=now)
    Authenticator.objects.filter(user=account).delete()
    account.email, account.email_verified_at = f"{account.pk}@{CLOSED}", None
    account.is_active, account.closed_at = False, now
    account.set_unusable_password()
    account.save()
    audit(account=account, action=Action.CLOSED)


@transaction.atomic
def account_activate(*, account: Account) -> None:
    """Let an account place and take calls, as a payment would."""
    account.status = Account.Status.ACTIVE
    account.save(update_fields=["status"])
    audit(account=account, action=Action.ACTIVATED)


@transaction.atomic
def account_suspend(*, account: Account, reason: str) -> None:
    """Stop an account's calls, whatever billing says, until it is unsuspended."""
    account.suspended_by_operator = True
    account.suspension_reason = reason
    account.save(update_fields=["suspended_by_operator", "suspension_reason"])
    audit(account=account, action=Action.SUSPENDED)


@transaction.atomic
def account_unsuspend(*, account: Account) -> None:
    """Lift an operator's suspension: billing's word holds again."""
    account.suspended_by_operator = False
    account.suspension_reason = ""
    account.save(update_fields=["suspended_by_operator", "suspension_reason"])
    audit(account=account, action=Action.UNSUSPENDED)


@transaction.atomic
def account_sign_out_everywhere(*, account: Account) -> None:
    """End all sessions and tokens of an account; API keys go on working."""
    Account.objects.filter(pk=account.pk).update(sessions_epoch=F("sessions_epoch") + 1)
    account.refresh_from_db(fields=["sessions_epoch"])
    audit(account=account, action=Action.SIGNED_OUT_EVERYWHERE)


@transaction.atomic
def api_key_create(*, account: Account, label: str = "") -> NewKey:
    """Make a key; raise 409 ``too_many_api_keys`` at 100 active ones."""
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)  # one at a time counts
    if account.api_keys.active().count() >= MAX_ACTIVE_KEYS:
        raise ApiError(
            409,
            "too_many_api_keys",
            f"This account has {MAX_ACTIVE_KEYS} API keys, the most it may have: revoke one first.",
        )
    return _new_key(account, label or ApiKey.DEFAULT_LABEL)


@transaction.atomic
def api_key_revoke(*, account: Account, id: str) -> None:
    """End a key at once; raise 404 unless it is an active one of the account.

    The last key may go too: whoever has lost it revokes it, and logs in to make another.
    """
    key = ApiKey.objects.active().select_for_update().access(account, id)
    key.revoked_at = timezone.now()
    key.save(update_fields=["revoked_at"])
    audit(account=account, action=Action.API_KEY_REVOKED, id=key.id, prefix=key.prefix)


@transaction.atomic
def webhook_secret_show(*, account: Account) -> str:
    """Return the secret that signs callbacks; that it was seen is written down once an hour.

    Programs may ask for it each time that they start.
    """
    if is_first_in_an_hour(account, what="webhook secret shown", to=current_actor().id):
        audit(account=account, action=Action.WEBHOOK_SECRET_SHOWN)
    return account.webhook_secret.secret


@transaction.atomic
def webhook_secret_rotate(*, account: Account) -> Rotation:
    """Replace the secret that signs callbacks."""
    record = WebhookSecret.objects.select_for_update().get(account=account)
    secret, now = new_webhook_secret(), timezone.now()
    record.rotate(secret, now)
    record.save()
    audit(account=account, action=Action.WEBHOOK_SECRET_ROTATED)
    return Rotation(secret, now + WebhookSecret.OVERLAP)


def _new_key(account: Account, label: str) -> NewKey:
    plain = new_api_key()
    api_key = ApiKey(
        account=account,
        label=label,
        prefix=plain[: ApiKey.PREFIX_LENGTH],
        digest=digest_of(plain),
    )
    api_key.full_clean(exclude={"account"}, validate_unique=False, validate_constraints=False)
    api_key.save(force_insert=True)
    audit(
        account=account,
        action=Action.API_KEY_CREATED,
        id=api_key.id,
        prefix=api_key.prefix,
        label=label,
    )
    return NewKey(api_key, plain)


@sensitive_variables()
def _prepared(email: str, password: str, company_name: str) -> Account:
    """Return a new account that is not saved yet; raise ``ValidationError``."""
    password_check(password, Account(email=normalize_email(email), company_name=company_name))
    account = Account.objects.prepare(email, password, company_name=company_name)
    account.full_clean(validate_unique=False, validate_constraints=False)
    return account


@contextmanager
def _email_free(email: str) -> Iterator[None]:
    """Save an account inside; raise 409 ``email_taken`` if another has its address."""
    try:
        yield
    except IntegrityError:
        if Account.objects.with_email(email).exists():
            raise ApiError(
                409, "email_taken", "There is an account with this email address: log in."
            ) from None
        raise
