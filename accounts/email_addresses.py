"""Email addresses as they are stored and compared: ASCII, in lower case.

Python and PostgreSQL, and even two versions of either, disagree about the case of other characters.
An internationalized domain is stored in its ``xn--…`` form, however it was typed.
"""

from __future__ import annotations

import re

import idna
from django.core.exceptions import ValidationError

_LONGEST_DOMAIN = 255
_ASCII_CAPITALS = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_VISIBLE_ASCII = re.compile(r"[!-~]*")


def normalize_email(email: str) -> str:
    """Return the form in which addresses are stored and compared, in lower case.

    An address without such a form is returned as it is; :func:`validate_ascii_email` rejects it.
    """
    local, at, domain = email.strip().rpartition("@")
    return local.translate(_ASCII_CAPITALS) + at + _ascii_domain(domain)


def validate_ascii_email(email: str) -> None:
    """Raise ``ValidationError`` for a normalized address that is not in visible ASCII."""
    if not _VISIBLE_ASCII.fullmatch(email):
        raise ValidationError(
            "Use only ASCII characters before the @, and a valid domain after it.",
            code="not_ascii",
        )


def _ascii_domain(domain: str) -> str:
    if domain.isascii() or len(domain) > _LONGEST_DOMAIN:
        return domain.translate(_ASCII_CAPITALS)
    try:
        return idna.encode(domain, uts46=True).decode()
    except UnicodeError:  # the base class of idna's errors
        return domain
