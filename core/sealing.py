"""Encryption at rest, and hashes that nobody else can make, with keys derived from ``SECRET_KEY``.

What is sealed for one purpose cannot be opened for another. ``SECRET_KEY_FALLBACKS`` still open
what an older key sealed, so that the key can be rotated.
"""

import base64
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class CannotUnseal(Exception):
    """The ciphertext was changed, or sealed with a key or for a purpose other than this one."""


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


def keyed_hashes(message: bytes, *, purpose: str) -> list[str]:
    """Return HMAC-SHA256 in hex, by the current key and then by each of the fallbacks.

    The first is the one to store; one that was stored before a rotation is among the others. Who
    has the hash and not the key cannot find the message by trying, however few there can be.
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
