"""API authentication: the only place that reads the ``Authorization`` header."""

from __future__ import annotations

from django.utils import timezone
from django.utils.crypto import constant_time_compare
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.settings import api_settings as jwt_settings
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import KEY_PREFIX, Account, ApiKey, is_well_formed
from accounts.second_factors import has_second_factor
from core.errors import ApiError, Refusals, unauthorized

# The claim that ties a token to the current password, as Django ties its sessions.
_PASSWORD_CLAIM = "password"  # noqa: S105 (a claim's name)
# The claim that a sign-out everywhere invalidates.
_EPOCH_CLAIM = "epoch"
# True if a second factor was verified.
_SECOND_FACTOR_CLAIM = "second_factor"


class AccountRequest(Request):
    """A request to an API view; ``user`` is the account that sent it."""

    user: Account
    auth: ApiKey | AccessToken


class BearerAuthentication(BaseAuthentication):
    """``Authorization: Bearer``, with an API key or a token from login.

    A request without the header is anonymous. Invalid credentials get 401, with a code for the
    reason.
    """

    def authenticate(self, request: Request) -> tuple[Account, ApiKey | AccessToken] | None:
        header = request.headers.get("Authorization")
        if not header:
            return None
        credentials = _credentials(header)
        if credentials.startswith(KEY_PREFIX):
            return _by_api_key(credentials)
        return _by_token(credentials)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"

    def refusals(self, http_method: str) -> Refusals:
        """Return the errors for the API's description."""
        return {
            401: {
                "missing_credentials": "There is no `Authorization` header.",
                "malformed_credentials": "The header is not `Bearer`, a space and one credential.",
                "malformed_api_key": "The API key is mistyped or incomplete.",
                "invalid_api_key": "The API key does not exist, or was revoked.",
                "invalid_token": "The credential is neither an API key nor a token.",
                "expired_token": "The token has expired. Sign in again.",
                "password_changed": "The password was changed after the token was created.",
                "signed_out": "The owner signed out everywhere after the token was created.",
                "second_factor_required": "A second factor was added after the token was created.",
                "unknown_account": "The account no longer exists.",
                "account_disabled": "The account is disabled. Contact support.",
            }
        }


def token_for(account: Account, *, second_factor: bool = False) -> str:
    """Return a JWT that is valid until it expires or the account's sessions end.

    :param second_factor: True if one was verified; else the token ends when the account adds one.
    """
    token = AccessToken.for_user(account)
    token[_PASSWORD_CLAIM] = account.get_session_auth_hash()
    token[_EPOCH_CLAIM] = account.sessions_epoch
    token[_SECOND_FACTOR_CLAIM] = second_factor
    return str(token)


def _credentials(header: str) -> str:
    scheme, _, credentials = header.strip().partition(" ")
    if scheme.lower() != "bearer" or not credentials or " " in credentials.strip():
        raise unauthorized(
            "malformed_credentials", "Send the header in this form: Authorization: Bearer rtk_…"
        )
    return credentials.strip()


def _by_api_key(credentials: str) -> tuple[Account, ApiKey]:
    if not is_well_formed(credentials):
        raise unauthorized(
            "malformed_api_key", "This API key is mistyped or incomplete. Copy it again."
        )
    key = ApiKey.objects.for_key(credentials)
    if key is None:
        raise unauthorized("invalid_api_key", "This API key does not exist or was revoked.")
    if not key.account.is_active:
        raise _disabled()
    key.note_use(timezone.now())
    return key.account, key


def _by_token(credentials: str) -> tuple[Account, AccessToken]:
    token = _token(credentials)
    account = Account.objects.filter(pk=token.get(jwt_settings.USER_ID_CLAIM)).first()
    if account is None:
        raise unauthorized("unknown_account", "The account of this token no longer exists.")
    if not account.is_active:
        raise _disabled()
    if token.get(_EPOCH_CLAIM, 0) != account.sessions_epoch:
        raise unauthorized(
            "signed_out", "You signed out everywhere after this token was created. Sign in again."
        )
    if not constant_time_compare(token.get(_PASSWORD_CLAIM), account.get_session_auth_hash()):
        raise unauthorized(
            "password_changed",
            "Your password was changed after this token was created. Sign in again.",
        )
    if not token.get(_SECOND_FACTOR_CLAIM) and has_second_factor(account):
        raise unauthorized(
            "second_factor_required",
            "This token was created without your second factor. Sign in again.",
        )
    return account, token


def _token(credentials: str) -> AccessToken:
    try:
        return AccessToken(credentials)  # type: ignore[arg-type]  # its annotation is wrong
    except ExpiredTokenError:
        raise unauthorized("expired_token", "This token has expired. Sign in again.") from None
    except (TokenError, RecursionError):  # a header of thousands of nested arrays is no token
        raise unauthorized(
            "invalid_token", "Send an API key (rtk_…) or a token from login."
        ) from None


def _disabled() -> ApiError:
    return unauthorized("account_disabled", "This account is disabled. Contact support.")
