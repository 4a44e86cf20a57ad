"""Verifies that a callback is really from the platform. Copy this into your backend.

Every callback is signed twice with the account's secret (``whsec_…``): as Standard Webhooks
(https://www.standardwebhooks.com) requires, and with ``X-Veevo-Signature`` for older backends.
Verifying one of them is enough; this backend verifies both.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from standardwebhooks import Webhook, WebhookVerificationError

Verdict = Literal["valid", "invalid", "missing", "unchecked"]


@dataclass(frozen=True, slots=True)
class Signatures:
    """The verdicts on the two signatures; unchecked if no secret is known."""

    standard: Verdict
    legacy: Verdict

    @property
    def are_fine(self) -> bool:
        return {self.standard, self.legacy} in ({"valid"}, {"unchecked"})


def check(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> Signatures:
    """Verify the raw body, as received, against every secret that may have signed it."""
    if not secrets:
        return Signatures("unchecked", "unchecked")
    standard = any(_is_standard_webhook(body, headers, secret) for secret in secrets)
    legacy = any(_is_signed_in_hex(body, headers, secret) for secret in secrets)
    return Signatures(
        _verdict("webhook-signature" in headers, standard),
        _verdict("X-Veevo-Signature" in headers, legacy),
    )


def is_secret(value: object) -> bool:
    """Return True if the value has the format of an account's secret."""
    return (
        isinstance(value, str)
        and re.fullmatch(r"whsec_[A-Za-z0-9+/]{16,}={0,2}", value) is not None
    )


def _is_standard_webhook(body: bytes, headers: Mapping[str, str], secret: str) -> bool:
    """Also refuse a message that is older than five minutes: it may be a replay."""
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return False
    return True


def _is_signed_in_hex(body: bytes, headers: Mapping[str, str], secret: str) -> bool:
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = headers.get("X-Veevo-Signature", "")
    return hmac.compare_digest(expected.encode(), given.encode(errors="surrogateescape"))


def _verdict(is_there: bool, is_valid: bool) -> Verdict:
    if not is_there:
        return "missing"
    return "valid" if is_valid else "invalid"
