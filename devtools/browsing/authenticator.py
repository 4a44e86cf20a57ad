"""An authenticator app for tests and isolated runs."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

if TYPE_CHECKING:
    from accounts.models import Account

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105 (of accounts in tests)
_PERIOD_S = 30


def app_of(account: Account) -> None:
    """Give an account an app with ``SECRET`` as its second factor, unless it has one."""
    from allauth.mfa.adapter import get_adapter
    from allauth.mfa.models import Authenticator

    data = {"secret": get_adapter().encrypt(SECRET), "counter": 0}
    Authenticator.objects.get_or_create(user=account, type="totp", defaults={"data": data})


def code(secret: str = SECRET, *, later: int = 0) -> str:
    """Return the code that an app shows now, or ``later`` half-minutes from now."""
    app = TOTP(base64.b32decode(secret), 6, SHA1(), _PERIOD_S)  # noqa: S303 # nosec B303 # what apps do
    return app.generate(int(time.time()) + later * _PERIOD_S).decode()
