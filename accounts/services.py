"""Services for accounts, API keys and webhook secrets. Each is one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from allauth.mfa.models import Authenticator
from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.core.exceptions import ValidationError
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
# A domain that cannot exist (RFC 2606), for the addresses of deleted accounts.
CLOSED = "closed.invalid"


class NewKey(NamedTuple):
    """A new key, and its plain text, which is never stored."""

    api_key: ApiKey
    plain: str


class Rotation(NamedTuple):
    """The new secret, and the time until which the previous one stays valid."""

    secret: str
    previous_valid_until: datetime


@sensitive_variables()
def account_register(*, email: str, password: str, company_name: str = "") -> NewKey:
    """Create an inactive account with its first API key; the key has the ``account``.

    Raises ``ValidationError`` with the fields that are wrong, and 409 ``email_taken``.
    """
    account = _prepared(email, password, company_name=company_name)
    with _email_free(email), transaction.atomic():
        _add(account)
        return _new_key(account, ApiKey.DEFAULT_LABEL)


@sensitive_variables()
def account_sign_up(
    *, email: str, password: str, company_name: str = "", time_zone: str = "UTC"
) -> Account:
    """Create an inactive account without a key, which customers create in the dashboard.

    Raises the same errors as :func:`account_register`.
    """
    account = _prepared(email, password, company_name=company_name, time_zone=time_zone)
    with _email_free(email), transaction.atomic():
        _add(account)
    return account


def _add(account: Account) -> None:
    Account.objects.add(account)
    audit(account=account, action=Action.REGISTERED)
    mail_queue(account=account, name=VERIFY_EMAIL)


@sensitive_variables()
def account_authenticate(*, email: str, password: str) -> Account:
    """Return the account with that email and password; raise 401 ``invalid_credentials``.

    A password is hashed whether or not the account exists, so that the response time reveals
    nothing.
    """
    account = authenticate(email=email, password=password)
    if not isinstance(account, Account):
        login_failure_note_soon(email=email)
        raise unauthorized("invalid_credentials", "The email address or password is wrong.")
    return account


@transaction.atomic
def account_note_login(*, account: Account) -> None:
    """Log a sign-in to the API. Where a session begins, that happens by itself."""
    update_last_login(Account, account)
    audit(account=account, action=Action.LOGGED_IN, where="API")


@transaction.atomic
def email_verify(*, account: Account, token: str) -> None:
    """Confirm the account's address with the link that was sent there; raise 404.

    The link proves who owns the address, and the session who owns the account. Both are needed:
    else a stranger whose address somebody typed in could take over the account.
    """
    require_verification_token(account, token)
    unverified = Account.objects.filter(pk=account.pk, email=account.email, email_verified_at=None)
    if unverified.update(email_verified_at=timezone.now()):
        audit(account=account, action=Action.EMAIL_CONFIRMED, email=account.email)


@transaction.atomic
def email_change(*, account: Account, email: str) -> None:
    """Change the account's address, which has to be confirmed; notify the old one if it was.

    Does nothing if it is the same. Raises ``ValidationError`` and 409 ``email_taken``.
    """
    before, was_confirmed = account.email, account.is_email_verified
    email = normalize_email(email)
    if email == before:
        return
    account.email, account.email_verified_at = email, None
    account.clean_fields(exclude={"password"})
    with _email_free(email), transaction.atomic():
        account.save(update_fields=["email", "email_verified_at"])
    audit(account=account, action=Action.EMAIL_CHANGED, before=before, after=email)
    if was_confirmed:
        mail_queue(account=account, name=EMAIL_CHANGED, to=before)
    mail_queue(account=account, name=VERIFY_EMAIL)


@transaction.atomic
def company_rename(*, account: Account, company_name: str) -> None:
    before, account.company_name = account.company_name, company_name
    account.clean_fields(exclude={"password"})
    account.save(update_fields=["company_name"])
    audit(account=account, action=Action.COMPANY_RENAMED, before=before, after=company_name)


@transaction.atomic
def time_zone_change(*, account: Account, time_zone: str) -> None:
    """Set the zone in which the account reads times; raise ``ValidationError``."""
    before, account.time_zone = account.time_zone, time_zone
    account.clean_fields(exclude={"password"})
    account.save(update_fields=["time_zone"])
    audit(account=account, action=Action.TIME_ZONE_CHANGED, before=before, after=time_zone)


def checklist_hide(*, account: Account, hides: bool) -> None:
    """Hide the steps to a first call on the overview, or show them again."""
    # Not audited: it changes what a page shows, and nothing that the account is or may do.
    account.hides_checklist = hides
    account.save(update_fields=["hides_checklist"])


@transaction.atomic
def account_close(*, account: Account) -> None:
    """Disable an account permanently: its keys, sessions and tokens end.

    A confirmed address is notified, and the address becomes available for another account. Usage
    and the audit log stay.
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
    """Activate an account without a payment, so that it can make and receive calls."""
    account.status = Account.Status.ACTIVE
    account.save(update_fields=["status"])
    audit(account=account, action=Action.ACTIVATED)


@transaction.atomic
def account_suspend(*, account: Account, reason: str) -> None:
    """Block an account's calls, whatever its billing status, until it is unsuspended."""
    account.suspended_by_operator = True
    account.suspension_reason = reason
    account.save(update_fields=["suspended_by_operator", "suspension_reason"])
    audit(account=account, action=Action.SUSPENDED)


@transaction.atomic
def account_unsuspend(*, account: Account) -> None:
    """Lift an operator's suspension, so that the billing status applies again."""
    account.suspended_by_operator = False
    account.suspension_reason = ""
    account.save(update_fields=["suspended_by_operator", "suspension_reason"])
    audit(account=account, action=Action.UNSUSPENDED)


@transaction.atomic
def account_sign_out_everywhere(*, account: Account) -> None:
    """End all sessions and tokens of an account; API keys keep working."""
    Account.objects.filter(pk=account.pk).update(sessions_epoch=F("sessions_epoch") + 1)
    account.refresh_from_db(fields=["sessions_epoch"])
    audit(account=account, action=Action.SIGNED_OUT_EVERYWHERE)


@transaction.atomic
def api_key_create(*, account: Account, label: str = "") -> NewKey:
    """Create a key; raise 409 ``too_many_api_keys`` at 100 active ones."""
    # One request at a time counts.
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    if account.api_keys.active().count() >= MAX_ACTIVE_KEYS:
        raise ApiError(
            409,
            "too_many_api_keys",
            f"This account has reached its limit of {MAX_ACTIVE_KEYS} API keys. Revoke one first.",
        )
    return _new_key(account, label or ApiKey.DEFAULT_LABEL)


@transaction.atomic
def api_key_revoke(*, account: Account, id: str) -> None:
    """Revoke a key at once; raise 404 unless it is an active key of the account.

    The last key can be revoked too: an owner who lost it signs in to create another.
    """
    key = ApiKey.objects.active().select_for_update().access(account, id)
    key.revoked_at = timezone.now()
    key.save(update_fields=["revoked_at"])
    audit(account=account, action=Action.API_KEY_REVOKED, id=key.id, prefix=key.prefix)


@transaction.atomic
def webhook_secret_show(*, account: Account) -> str:
    """Return the secret that signs callbacks, and log this at most once an hour.

    Backends may request it whenever they start.
    """
    if is_first_in_an_hour(account, what="webhook secret shown", to=current_actor().id):
        audit(account=account, action=Action.WEBHOOK_SECRET_SHOWN)
    return account.webhook_secret.secret


@transaction.atomic
def webhook_secret_rotate(*, account: Account) -> Rotation:
    """Rotate the secret that signs callbacks."""
    record = WebhookSecret.objects.select_for_update().get(account=account)
    secret, now = new_webhook_secret(), timezone.now()
    record.rotate(secret, now)
    record.save()
    audit(account=account, action=Action.WEBHOOK_SECRET_ROTATED)
    return Rotation(secret, now + WebhookSecret.OVERLAP)


def webhook_secrets_replace_lost() -> int:
    """Replace the secrets whose ``SECRET_KEY`` is gone, which sign nothing; return how many."""
    return sum(map(_replace_if_lost, WebhookSecret.objects.values_list("pk", flat=True).iterator()))


@transaction.atomic
def _replace_if_lost(account_id: str) -> bool:
    record = WebhookSecret.objects.select_for_update().select_related("account").get(pk=account_id)
    if record.opens():
        return False
    record.rotate(new_webhook_secret(), timezone.now())
    record.save()
    audit(account=record.account, action=Action.WEBHOOK_SECRET_ROTATED)
    return True


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
def _prepared(email: str, password: str, **fields: str) -> Account:
    """Return a new, unsaved account; raise ``ValidationError`` with everything that is wrong."""
    candidate = Account(email=normalize_email(email), **fields)
    problems: dict[str, list[str]] = {}
    try:
        candidate.full_clean({"password"}, validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        problems |= error.message_dict
    try:
        password_check(password, candidate)
    except ValidationError as error:
        problems |= error.message_dict
    if problems:
        raise ValidationError(problems)
    return Account.objects.prepare(email, password, **fields)


@contextmanager
def _email_free(email: str) -> Iterator[None]:
    """Save an account inside; raise 409 ``email_taken`` if another account has its address."""
    try:
        yield
    except IntegrityError:
        if Account.objects.with_email(email).exists():
            raise email_taken() from None
        raise


def email_taken() -> ApiError:
    return ApiError(
        409, "email_taken", "An account with this email address already exists. Sign in instead."
    )
