"""Django validators that reject passwords, besides short and common ones."""

from __future__ import annotations

from difflib import SequenceMatcher

from django.core.exceptions import ValidationError

from accounts.models import Account

MIN_PASSWORD_LENGTH = 8
# Enough for every password manager, and short enough that hashing costs no more than usual.
MAX_PASSWORD_LENGTH = 1000
PASSWORD_HELP = (
    f"At least {MIN_PASSWORD_LENGTH} characters. Don't use a common password, or one like your "
    "email address or company name."
)

TOO_LIKE = 0.7
# Only the beginnings of long texts are compared: the time grows faster than the length.
_COMPARED = 100


class NotTheAccountsOwn:
    """Rejects the first guesses of somebody who knows the account: its email and company.

    Case, spaces and punctuation are ignored.
    """

    def validate(self, password: str, user: Account | None = None) -> None:
        if user is None:
            return
        name, _, domain = user.email.rpartition("@")
        if any(_is_like(password, text) for text in (user.email, name, domain)):
            raise _too_similar("your email address")
        if _is_like(password, user.company_name):
            raise _too_similar("your company name")

    def get_help_text(self) -> str:
        return "Your password can't be too similar to your email address or company name."


class MoreThanOneCharacter:
    """Rejects passwords of white space, or of one repeated character."""

    def validate(self, password: str, user: Account | None = None) -> None:
        if not password.strip() or len(set(password.casefold())) == 1:
            raise ValidationError(
                "Don't use only white space or a single repeated character. Choose another one.",
                code="password_of_one_character",
            )

    def get_help_text(self) -> str:
        return "Your password can't be only white space or a single repeated character."


def _too_similar(what: str) -> ValidationError:
    return ValidationError(
        f"This password is too similar to {what}. Choose another one.",
        code="password_too_similar",
    )


def _is_like(password: str, text: str) -> bool:
    one, other = _plain(password), _plain(text)
    if not other or SequenceMatcher(None, one, other).real_quick_ratio() < TOO_LIKE:
        return False
    return SequenceMatcher(None, one[:_COMPARED], other[:_COMPARED]).ratio() >= TOO_LIKE


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
