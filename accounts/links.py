"""Links in emails: signed, expiring, and made when the email is sent."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.urls import reverse

from accounts.models import Account
from core.errors import ApiError
from core.ids import is_id

VERIFICATION_VALID = timedelta(days=3)


def verification_link(account: Account) -> str:
    """Return the link that confirms the account's current email address, when signed in."""
    token = _signer(account).sign(account.pk)
    return settings.PUBLIC_URL + reverse("confirm-email", args=[token])


def require_verification_token(account: Account, token: str) -> None:
    """Raise 404 ``link_invalid`` or ``link_expired`` unless the link belongs to this account.

    It is only valid for the address that it was sent to.
    """
    try:
        owner = _signer(account).unsign(token, max_age=VERIFICATION_VALID)
    except SignatureExpired:
        raise ApiError(404, "link_expired", "This link has expired. Request a new one.") from None
    except BadSignature:
        owner = ""
    if owner != account.pk:
        raise ApiError(
            404,
            "link_invalid",
            f"This link is not for {account.email}, the account you are signed in to. Sign in to "
            "the account that it was sent to.",
        )


def password_reset_link(account: Account) -> str:
    """Return the link that resets the password, valid for an hour and one use."""
    token = default_token_generator.make_token(account)
    return settings.PUBLIC_URL + reverse("set-password", args=[account.pk, token])


def account_to_reset(id: str, token: str, *, lock: bool = False) -> Account | None:
    """Return the account whose password the link resets; None if the link is not valid.

    It ends with a new password, a sign-in, a change of the email address, or after an hour.
    """
    accounts = Account.objects.select_for_update(no_key=True) if lock else Account.objects.all()
    account = accounts.filter(pk=id, is_active=True).first() if is_id(id) else None
    if account is None or not account.is_email_verified:
        return None
    return account if default_token_generator.check_token(account, token) else None


def _signer(account: Account) -> TimestampSigner:
    return TimestampSigner(sep=".", salt=f"confirm email {account.email}")
