"""Email addresses as they are stored and compared: ASCII, in lower case.

Python and PostgreSQL, and two versions of either, disagree about the case of other characters. So
an internationalised domain is kept as mail servers know it, ``xn--…``, however it was typed.
"""

from __future__ import annotations

import re

import idna
from django.core.exceptions import ValidationError

_LONGEST_DOMAIN = 255
_ASCII_CAPITALS = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_VISIBLE_ASCII = re.compile(r"[!-~]*")


def normalize_email(email: str) -> str:
    """Return the form in which addresses are stored and compared: case does not count.

    What has no such form comes back as it was; :func:`validate_ascii_email` refuses it.
    """
    local, at, domain = email.strip().rpartition("@")
    return local.translate(_ASCII_CAPITALS) + at + _ascii_domain(domain)


def validate_ascii_email(email: str) -> None:
    """Raise ``ValidationError`` for a normalized address that is not in visible ASCII."""
    if not _VISIBLE_ASCII.fullmatch(email):
        raise ValidationError(
            "Use ASCII letters, digits and signs before the @, and a domain that exists after it.",
            code="not_ascii",
        )


def _ascii_domain(domain: str) -> str:
    if domain.isascii() or len(domain) > _LONGEST_DOMAIN:
        return domain.translate(_ASCII_CAPITALS)
    try:
        return idna.encode(domain, uts46=True).decode()
    except UnicodeError:  # idna's own errors are of this kind
        return domain
