"""Second factors: an authenticator app (TOTP), passkeys and recovery codes.

django-allauth stores and verifies them; this module has the rules. An account *has* a second factor
if it has an app or a passkey. Recovery codes are created with the first and removed with the last.
Secrets are sealed (``accounts.mfa_adapter``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import structlog
from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import (
    format_hotp_value,
    generate_totp_secret,
    hotp_value,
    yield_hotp_counters_from_time,
)
from allauth.mfa.webauthn.internal import auth as webauthn
from cryptography.exceptions import InvalidSignature
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts.audit import Action, audit
from accounts.mails import SECOND_FACTOR_CHANGED, mail_queue
from accounts.models import Account
from core.errors import ApiError, invalid, unauthorized
from core.sealing import CannotUnseal

log = structlog.get_logger(__name__)

TOTP, PASSKEY = Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN
RECOVERY_CODES = Authenticator.Type.RECOVERY_CODES
# Six or eight digits, and separators that people type.
MAX_CODE_LENGTH = 32
MAX_PASSKEYS = 10
_LONGEST_ID = 18  # digits of a PostgreSQL bigint
MAX_PASSKEY_NAME_LENGTH = 50

# What the owner is told by email. Of factors that are used, only recovery codes are reported.
_NEWS = {
    "totp_added": "An authenticator app was added.",
    "totp_removed": "The authenticator app was removed.",
    "passkey_added": "A passkey was added.",
    "passkey_removed": "A passkey was removed.",
    "recovery_codes_renewed": "New recovery codes were generated. The old ones no longer work.",
    "recovery_code_used": "A recovery code was used. You can't use it again.",
    "all_removed": "Support removed all second factors.",
}
# The errors that fido2 raises for made-up credentials.
_MADE_UP = (
    ValidationError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
    struct.error,
    InvalidSignature,
)


_ACTIONS = {
    "totp_added": Action.SECOND_FACTOR_ADDED,
    "totp_removed": Action.SECOND_FACTOR_REMOVED,
    "passkey_added": Action.SECOND_FACTOR_ADDED,
    "passkey_removed": Action.SECOND_FACTOR_REMOVED,
    "recovery_codes_renewed": Action.RECOVERY_CODES_MADE,
    "recovery_code_used": Action.RECOVERY_CODE_USED,
    "all_removed": Action.SECOND_FACTOR_REMOVED,
}


def second_factor_changed(account: Account, what: str) -> None:
    """Log a change of an account's second factor, and notify its owner.

    :param what: a key of ``_NEWS``, or ``totp_used`` or ``passkey_used``.
    """
    if action := _ACTIONS.get(what):
        audit(account=account, action=action, what=what)
    if news := _NEWS.get(what):
        mail_queue(account=account, name=SECOND_FACTOR_CHANGED, news=news)


def second_factors(account: Account) -> QuerySet[Authenticator]:
    """Return the account's app and passkeys, oldest first."""
    return (
        Authenticator.objects.filter(user=account)
        .exclude(type=RECOVERY_CODES)
        .order_by("created_at", "pk")
    )


def has_second_factor(account: Account) -> bool:
    return second_factors(account).exists()


def recovery_codes_left(account: Account) -> int:
    record = Authenticator.objects.filter(user=account, type=RECOVERY_CODES).first()
    return len(RecoveryCodes(record).get_unused_codes()) if record else 0


# An authenticator app.


def totp_secret_new() -> str:
    """Return a new secret for an app, in base32."""
    return generate_totp_secret()


@sensitive_variables()
def totp_qr_code(account: Account, secret: str) -> str:
    """Return the QR code for an app, as SVG that qrcode made."""
    adapter = get_adapter()
    svg: str = adapter.build_totp_svg(adapter.build_totp_url(account, secret))
    return svg[svg.index("<svg") :]


@sensitive_variables()
@transaction.atomic
def totp_add(*, account: Account, secret: str, code: str) -> list[str]:
    """Add an app that shows this code now; return the recovery codes if they are new.

    Raises 409 ``second_factor_exists`` if there is an app already, and 400
    ``second_factor_invalid``.
    """
    _lock(account)
    if second_factors(account).filter(type=TOTP).exists():
        raise ApiError(
            409,
            "second_factor_exists",
            "This account already has an authenticator app. Remove it first.",
        )
    counter = _counter_of(secret, code)
    if counter is None:
        message = "This code is wrong or expired. Enter the one that the app shows now."
        raise invalid({"code": [message]}, "second_factor_invalid")
    data = {"secret": get_adapter().encrypt(secret), "counter": counter}
    Authenticator.objects.create(user=account, type=TOTP, data=data)
    second_factor_changed(account, "totp_added")
    return _first_recovery_codes(account)


def _counter_of(secret: str, code: str) -> int | None:
    """Return the counter of the code's 30-second period if that is about now, else None."""
    for counter in yield_hotp_counters_from_time():
        if compare_user_code(actual=code, expected=format_hotp_value(hotp_value(secret, counter))):
            return counter
    return None


def _totp_takes(account: Account, code: str) -> bool:
    """Return True if the code is the app's, and newer than every code used before."""
    record = second_factors(account).select_for_update().filter(type=TOTP).first()
    if record is None:
        return False
    counter = _counter_of(get_adapter().decrypt(record.data["secret"]), code)
    if counter is None or counter <= record.data["counter"]:
        return False
    record.data["counter"] = counter
    record.save(update_fields=["data"])
    record.record_usage()
    return True


# Passkeys. The session keeps the challenge until the browser responds to it.


def passkey_creation_options(account: Account) -> dict[str, Any]:
    """Return the browser's options to create a passkey (``PublicKeyCredentialCreationOptions``)."""
    return webauthn.begin_registration(account, passwordless=False)


def passkey_request_options(account: Account) -> dict[str, Any]:
    """Return the browser's options to use a passkey (``PublicKeyCredentialRequestOptions``)."""
    return webauthn.begin_authentication(account)


@transaction.atomic
def passkey_add(*, account: Account, name: str, credential: Any) -> list[str]:
    """Add the passkey that a browser created; return the recovery codes if they are new.

    Raises 400 ``second_factor_invalid``, and 409 ``too_many_passkeys`` at ten.
    """
    _lock(account)
    if second_factors(account).filter(type=PASSKEY).count() >= MAX_PASSKEYS:
        raise ApiError(
            409,
            "too_many_passkeys",
            f"This account has reached its limit of {MAX_PASSKEYS} passkeys. Remove one first.",
        )
    try:
        webauthn.parse_registration_response(credential)
        webauthn.complete_registration(credential)
    except _MADE_UP:
        message = "This passkey could not be verified. Try again."
        raise ApiError(400, "second_factor_invalid", message) from None
    webauthn.WebAuthn.add(account, name, credential)
    second_factor_changed(account, "passkey_added")
    return _first_recovery_codes(account)


# Recovery codes.


@transaction.atomic
def recovery_codes_renew(*, account: Account) -> list[str]:
    """Replace the recovery codes and return the new ones; raise 409 ``no_second_factor``."""
    _lock(account)
    if not has_second_factor(account):
        raise ApiError(
            409, "no_second_factor", "Add a second factor before you generate recovery codes."
        )
    Authenticator.objects.filter(user=account, type=RECOVERY_CODES).delete()
    second_factor_changed(account, "recovery_codes_renewed")
    return _recovery_codes(account)


def _first_recovery_codes(account: Account) -> list[str]:
    has_some = Authenticator.objects.filter(user=account, type=RECOVERY_CODES).exists()
    return [] if has_some else _recovery_codes(account)


def _recovery_codes(account: Account) -> list[str]:
    codes: list[str] = RecoveryCodes.activate(account).generate_codes()
    return codes


def _recovery_code_takes(account: Account, code: str) -> bool:
    record = Authenticator.objects.filter(user=account, type=RECOVERY_CODES).first()
    if record is None or not RecoveryCodes(record).validate_code(code):
        return False
    Authenticator.objects.filter(pk=record.pk).update(last_used_at=timezone.now())
    return True


# Verifying a second factor.


@sensitive_variables()
@transaction.atomic
def code_require(account: Account, code: str) -> None:
    """Accept a code of the app or a recovery code, each once; raise 401 otherwise."""
    _lock(account)
    ways: tuple[tuple[str, Callable[[Account, str], bool]], ...] = (
        ("totp_used", _totp_takes),
        ("recovery_code_used", _recovery_code_takes),
    )
    for what, takes in ways:
        if _holds(takes, account, code):
            second_factor_changed(account, what)
            return
    raise unauthorized(
        "second_factor_invalid",
        "This code is wrong, expired or already used. Use a new one.",
    )


def _holds(takes: Callable[[Account, str], bool], account: Account, code: str) -> bool:
    try:
        return takes(account, code)
    except CannotUnseal:  # an older SECRET_KEY is missing; another factor may work
        log.error("second_factor_cannot_be_unsealed", account_id=account.id)
        return False


def passkey_require(account: Account, credential: Any) -> None:
    """Accept a browser's response to the options above, once; raise 401 otherwise."""
    try:
        webauthn.parse_authentication_response(credential)
        record = webauthn.complete_authentication(account, credential)
    except _MADE_UP:
        message = "This passkey was not accepted. Try again."
        raise unauthorized("second_factor_invalid", message) from None
    record.record_usage()
    second_factor_changed(account, "passkey_used")


# Removing them.


@transaction.atomic
def second_factor_remove(*, account: Account, id: str) -> None:
    """Remove an app or a passkey; with the last one, remove the recovery codes too.

    Raises 404, and 409 ``last_second_factor`` for an operator, who must have one.
    """
    _lock(account)
    is_id = id.isascii() and id.isdecimal() and len(id) <= _LONGEST_ID
    found = second_factors(account).filter(pk=id).first() if is_id else None
    if found is None:
        raise ApiError(404, "not_found", "This account has no such second factor.")
    is_last = second_factors(account).count() == 1
    if is_last and account.is_staff:
        raise ApiError(
            409,
            "last_second_factor",
            "Operators need a second factor. Add another one before you remove this one.",
        )
    found.delete()
    if is_last:
        Authenticator.objects.filter(user=account).delete()
    what = "totp_removed" if found.type == TOTP else "passkey_removed"
    second_factor_changed(account, what)


@transaction.atomic
def second_factors_remove_all(*, account: Account) -> bool:
    """Remove all second factors, for an owner who lost them; return False if there are none."""
    _lock(account)
    count, _ = Authenticator.objects.filter(user=account).delete()
    if count:
        second_factor_changed(account, "all_removed")
    return bool(count)


def _lock(account: Account) -> None:
    """Serialize changes of an account's second factors."""
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
