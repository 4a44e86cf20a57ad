"""Encryption at rest and keyed hashes, with keys derived from ``SECRET_KEY``.

A value sealed for one purpose cannot be opened for another. ``SECRET_KEY_FALLBACKS`` still open
values that an older key sealed, so that the key can be rotated.
"""

import base64
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class CannotUnseal(Exception):
    """The ciphertext was changed, or sealed with another key or for another purpose."""


def seal(plaintext: bytes, *, purpose: str) -> bytes:
    return _box(settings.SECRET_KEY, tuple(settings.SECRET_KEY_FALLBACKS), purpose).encrypt(
        plaintext
    )


def unseal(ciphertext: bytes | memoryview, *, purpose: str) -> bytes:
    box = _box(settings.SECRET_KEY, tuple(settings.SECRET_KEY_FALLBACKS), purpose)
    try:
        return box.decrypt(bytes(ciphertext))
    except InvalidToken:
        raise CannotUnseal(purpose) from None


def opens(ciphertext: bytes | memoryview, *, purpose: str) -> bool:
    """Return True if the keys that are set open the ciphertext."""
    try:
        unseal(ciphertext, purpose=purpose)
    except CannotUnseal:
        return False
    return True


def keyed_hashes(message: bytes, *, purpose: str) -> list[str]:
    """Return HMAC-SHA256 in hex, with the current key and then with each of the fallbacks.

    Store the first; one that was stored before a rotation is among the others. Without the key, the
    message cannot be found from the hash by trial, however few messages there are.
    """
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return [hmac.digest(_key(key, f"hash: {purpose}"), message, "sha256").hex() for key in keys]


@lru_cache(maxsize=32)
def _box(secret: str, fallbacks: tuple[str, ...], purpose: str) -> MultiFernet:
    return MultiFernet([Fernet(_key(key, purpose)) for key in (secret, *fallbacks)])


@lru_cache(maxsize=32)
def _key(secret: str, purpose: str) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode())
    return base64.urlsafe_b64encode(derived.derive(secret.encode()))
