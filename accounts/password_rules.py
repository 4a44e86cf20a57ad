"""Which passwords are refused beside short and common ones, as validators of Django's."""

from __future__ import annotations

from difflib import SequenceMatcher

from django.core.exceptions import ValidationError

from accounts.models import Account

MIN_PASSWORD_LENGTH = 8
# Long enough for every password manager, short enough that hashing it costs what a short one costs.
MAX_PASSWORD_LENGTH = 1000
PASSWORD_HELP = (
    f"At least {MIN_PASSWORD_LENGTH} characters: no common password, and none like your email or "
    "company."
)

TOO_LIKE = 0.7
# Of longer texts the beginnings are compared: it takes time that grows faster than they do.
_COMPARED = 100


class NotTheAccountsOwn:
    """Refuses what whoever knows the account tries first: its email address, its company's name.

    Case, spaces and punctuation make no difference.
    """

    def validate(self, password: str, user: Account | None = None) -> None:
        if user is None:
            return
        name, _, domain = user.email.rpartition("@")
        if any(_is_like(password, text) for text in (user.email, name, domain)):
            raise _too_similar("the email address")
        if _is_like(password, user.company_name):
            raise _too_similar("the company's name")

    def get_help_text(self) -> str:
        return "Your password can't be too similar to the email address or the company's name."


class MoreThanOneCharacter:
    """Refuses eight spaces, and eight times the same."""

    def validate(self, password: str, user: Account | None = None) -> None:
        if not password.strip() or len(set(password.casefold())) == 1:
            raise ValidationError(
                "Choose another password: this one is white space only, or one character repeated.",
                code="password_of_one_character",
            )

    def get_help_text(self) -> str:
        return "Your password can't be only white space, or one character repeated."


def _too_similar(what: str) -> ValidationError:
    return ValidationError(
        f"Choose another password: this one is too similar to {what}.",
        code="password_too_similar",
    )


def _is_like(password: str, text: str) -> bool:
    one, other = _plain(password), _plain(text)
    if not other or SequenceMatcher(None, one, other).real_quick_ratio() < TOO_LIKE:
        return False
    return SequenceMatcher(None, one[:_COMPARED], other[:_COMPARED]).ratio() >= TOO_LIKE


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
