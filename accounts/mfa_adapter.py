"""The adapter of django-allauth: how secrets are sealed, and which site passkeys belong to.

Separate from ``accounts.second_factors``, because allauth loads it before models.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings

from core.sealing import seal, unseal

PURPOSE = "second-factor"


class SealingAdapter(DefaultMFAAdapter):
    def encrypt(self, text: str) -> str:
        return seal(text.encode(), purpose=PURPOSE).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text.encode(), purpose=PURPOSE).decode()

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return {"id": relying_party(), "name": settings.MFA_TOTP_ISSUER}


def relying_party() -> str:
    """Return the host that passkeys are bound to, whatever host a request names."""
    return str(urlsplit(settings.PUBLIC_URL).hostname)


def passkeys_work() -> bool:
    """Return True if passkeys can be used: browsers bind them to names, not to IP addresses."""
    try:
        ip_address(relying_party())
    except ValueError:
        return True
    return False
