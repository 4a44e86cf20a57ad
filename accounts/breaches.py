"""Checks passwords against known data breaches, without sending them anywhere.

The range API of Have I Been Pwned (https://haveibeenpwned.com/API/v3#PwnedPasswords) returns all
breached passwords whose SHA-1 begins with the same five hex digits. The check is off unless
``PASSWORD_BREACH_CHECK_URL`` is set. If the service is down, every password passes.
"""

from __future__ import annotations

import hashlib

import requests
import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.views.decorators.debug import sensitive_variables

from core.connections import give_connection_back

log = structlog.get_logger(__name__)

TIMEOUT_S = 2
_PREFIX_LENGTH = 5


class NotBreached:
    """A Django validator that rejects breached passwords."""

    @sensitive_variables()
    def validate(self, password: str, user: object = None) -> None:
        if settings.PASSWORD_BREACH_CHECK_URL and _is_breached(password):
            raise ValidationError(
                "This password appeared in a data breach at another site. Choose another one.",
                code="password_breached",
            )

    def get_help_text(self) -> str:
        return "Your password can't be one that has appeared in a known data breach."


@sensitive_variables()
def _is_breached(password: str) -> bool:
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    prefix, suffix = digest[:_PREFIX_LENGTH], digest[_PREFIX_LENGTH:]
    for line in _range(prefix).splitlines():
        found, _, count = line.partition(":")
        if found.strip().upper() == suffix:
            return count.strip() != "0"  # padding, which hides the number of results
    return False


def _range(prefix: str) -> str:
    """Return the service's response; "" if it fails."""
    give_connection_back()
    try:
        answer = requests.get(
            f"{settings.PASSWORD_BREACH_CHECK_URL}/{prefix}",
            headers={"Add-Padding": "true", "User-Agent": "Switchhook"},
            timeout=TIMEOUT_S,
            allow_redirects=False,
        )
        answer.raise_for_status()
    except requests.RequestException as error:
        log.warning("breach_check_failed", why=type(error).__name__)
        return ""
    return answer.text if answer.status_code == 200 else ""
