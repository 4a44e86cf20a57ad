"""The second factor of an account: an authenticator app (TOTP), passkeys, and recovery codes.

django-allauth keeps and checks them; here is what may be done with them. An account *has* a second
factor when it has an app or a passkey. Its recovery codes come with the first and go with the last.
What is secret in them is sealed (``accounts.mfa_adapter``).
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
# Six or eight digits, and what people put between them.
MAX_CODE_LENGTH = 32
MAX_PASSKEYS = 10
_LONGEST_ID = 18  # digits of what PostgreSQL counts with
MAX_PASSKEY_NAME_LENGTH = 50

# What the owner is told of by mail. A factor that was used is no news, but for a recovery code.
_NEWS = {
    "totp_added": "An authenticator app was added.",
    "totp_removed": "The authenticator app was removed.",
    "passkey_added": "A passkey was added.",
    "passkey_removed": "A passkey was removed.",
    "recovery_codes_renewed": "There are new recovery codes. The old ones no longer work.",
    "recovery_code_used": "A recovery code was used. It cannot be used again.",
    "all_removed": "All second factors were removed by whoever runs this Switchhook.",
}
# Whatever fido2 stumbles over in a credential that somebody has made up.
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
    """Write down what happened to an account's second factor, and tell its owner.

    :param what: one of ``_NEWS``, or ``totp_used`` or ``passkey_used``.
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
    """Return a secret for an app, in base32; it is nobody's yet."""
    return generate_totp_secret()


@sensitive_variables()
def totp_qr_code(account: Account, secret: str) -> str:
    """Return what an app's camera reads, as SVG: qrcode's own paths, and nothing else."""
    adapter = get_adapter()
    svg: str = adapter.build_totp_svg(adapter.build_totp_url(account, secret))
    return svg[svg.index("<svg") :]


@sensitive_variables()
@transaction.atomic
def totp_add(*, account: Account, secret: str, code: str) -> list[str]:
    """Add an app that shows this code now; return the recovery codes if they are new.

    Raises 409 ``second_factor_exists`` if there is an app, and 400 ``second_factor_invalid``.
    """
    _lock(account)
    if second_factors(account).filter(type=TOTP).exists():
        raise ApiError(
            409,
            "second_factor_exists",
            "This account has an authenticator app already: remove it first.",
        )
    counter = _counter_of(secret, code)
    if counter is None:
        message = "This is not the code that the app shows now: enter the next one."
        raise invalid({"code": [message]}, "second_factor_invalid")
    data = {"secret": get_adapter().encrypt(secret), "counter": counter}
    Authenticator.objects.create(user=account, type=TOTP, data=data)
    second_factor_changed(account, "totp_added")
    return _first_recovery_codes(account)


def _counter_of(secret: str, code: str) -> int | None:
    """Return the number of the half minute that the code is of, if that is about now."""
    for counter in yield_hotp_counters_from_time():
        if compare_user_code(actual=code, expected=format_hotp_value(hotp_value(secret, counter))):
            return counter
    return None


def _totp_takes(account: Account, code: str) -> bool:
    """Whether it is a code of the app's that is newer than each that was taken before."""
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


# Passkeys. The session keeps the challenge from the options until a browser has answered it.


def passkey_creation_options(account: Account) -> dict[str, Any]:
    """Return what a browser makes a passkey from (``PublicKeyCredentialCreationOptions``)."""
    return webauthn.begin_registration(account, passwordless=False)


def passkey_request_options(account: Account) -> dict[str, Any]:
    """Return what a browser asks for a passkey with (``PublicKeyCredentialRequestOptions``)."""
    return webauthn.begin_authentication(account)


@transaction.atomic
def passkey_add(*, account: Account, name: str, credential: Any) -> list[str]:
    """Add the passkey that a browser has made; return the recovery codes if they are new.

    Raises 400 ``second_factor_invalid``, and 409 ``too_many_passkeys`` at ten.
    """
    _lock(account)
    if second_factors(account).filter(type=PASSKEY).count() >= MAX_PASSKEYS:
        raise ApiError(
            409,
            "too_many_passkeys",
            f"This account has {MAX_PASSKEYS} passkeys, the most it may have: remove one first.",
        )
    try:
        webauthn.parse_registration_response(credential)
        webauthn.complete_registration(credential)
    except _MADE_UP:
        message = "This passkey could not be checked: try again."
        raise ApiError(400, "second_factor_invalid", message) from None
    webauthn.WebAuthn.add(account, name, credential)
    second_factor_changed(account, "passkey_added")
    return _first_recovery_codes(account)


# Recovery codes.


@transaction.atomic
def recovery_codes_renew(*, account: Account) -> list[str]:
    """Return new codes in the place of the old ones; raise 409 ``no_second_factor``."""
    _lock(account)
    if not has_second_factor(account):
        raise ApiError(
            409, "no_second_factor", "Recovery codes stand in for a second factor: add one first."
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


# Showing a second factor.


@sensitive_variables()
@transaction.atomic
def code_require(account: Account, code: str) -> None:
    """Take a code of the app's or a recovery code, each once; raise 401 otherwise."""
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
        "This code is wrong, too old, or was used before: use a new one.",
    )


def _holds(takes: Callable[[Account, str], bool], account: Account, code: str) -> bool:
    try:
        return takes(account, code)
    except CannotUnseal:  # an older SECRET_KEY is missing: another factor may hold
        log.error("second_factor_cannot_be_unsealed", account_id=account.id)
        return False


def passkey_require(account: Account, credential: Any) -> None:
    """Take a browser's answer to the options above, once; raise 401 otherwise."""
    try:
        webauthn.parse_authentication_response(credential)
        record = webauthn.complete_authentication(account, credential)
    except _MADE_UP:
        message = "This passkey was not accepted: try again."
        raise unauthorized("second_factor_invalid", message) from None
    record.record_usage()
    second_factor_changed(account, "passkey_used")


# Removing them.


@transaction.atomic
def second_factor_remove(*, account: Account, id: str) -> None:
    """Remove an app or a passkey; the recovery codes go with the last of them.

    Raises 404, and 409 ``last_second_factor`` for an operator, who has to have one.
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
            "Operators need a second factor: add another one before you remove this one.",
        )
    found.delete()
    if is_last:
        Authenticator.objects.filter(user=account).delete()
    what = "totp_removed" if found.type == TOTP else "passkey_removed"
    second_factor_changed(account, what)


@transaction.atomic
def second_factors_remove_all(*, account: Account) -> bool:
    """Remove all that the account has, for somebody who has lost it; False if it has none."""
    _lock(account)
    count, _ = Authenticator.objects.filter(user=account).delete()
    if count:
        second_factor_changed(account, "all_removed")
    return bool(count)


def _lock(account: Account) -> None:
    """Let one at a time count, add and remove."""
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
