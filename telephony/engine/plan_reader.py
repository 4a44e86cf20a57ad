"""Reads the fields of a backend's answer, and collects what is wrong with them.

An answer may be a megabyte of mistakes: what is told of them is bounded while it is collected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from telephony.engine.bounds import clipped, is_storable

# Mistakes that are told one by one; the others are counted.
MOST_PROBLEMS = 20
LONGEST_URL = 2_000
LONGEST_AUTH_TOKEN = 128

ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")

T = TypeVar("T")


class PlanError(ValueError):
    """The answer cannot be used.

    ``fields`` names what is wrong with which field; ``more`` is how many mistakes are not in there.
    """

    def __init__(self, fields: Mapping[str, list[str]], more: int = 0) -> None:
        self.fields = dict(fields)
        self.more = more
        told = [f"{name}: {' '.join(why)}" for name, why in fields.items()]
        super().__init__(clipped("; ".join([*told, f"and {more} more."] if more else told)))


class Problems:
    """What is wrong with the fields of an answer: the first mistakes, and how many there are."""

    def __init__(self) -> None:
        self._count = 0
        self._fields: dict[str, list[str]] = {}

    def add(self, name: str, why: str) -> None:
        self._count += 1
        if self._count <= MOST_PROBLEMS:
            self._fields.setdefault(name, []).append(why)

    def require_none(self) -> None:
        """Raise :class:`PlanError` if there is a problem."""
        if self._count:
            raise PlanError(self._fields, max(0, self._count - MOST_PROBLEMS))


class Reader:
    """Returns the value of a field if it can be used; else a default, and notes the problem."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.problems = Problems()

    def text(self, name: str, *, most: int, required: bool = False, missing: str = "") -> str:
        """Read a text of at most so many characters."""
        return self._read(
            name, "", lambda value: text_problem(value, most), required=required, missing=missing
        )

    def header_value(self, name: str, *, most: int) -> str:
        """Read a required string that is sent in an HTTP header: no spaces, no line breaks."""
        return self._read(
            name,
            "",
            lambda value: _header_problem(value) or text_problem(value, most),
            required=True,
        )

    def boolean(self, name: str) -> bool:
        return self._accept(
            name, False, lambda value: isinstance(value, bool), "Use true or false."
        )

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        return self._accept(
            name,
            default,
            lambda value: (
                isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
            ),
            f"Use a whole number from {least} to {most}.",
        )

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        return self._accept(
            name, default, choices.__contains__, f"Use one of {', '.join(choices)}."
        )

    def matching(
        self,
        name: str,
        pattern: re.Pattern[str],
        why: str,
        *,
        default: str | None = None,
        missing: str = "",
    ) -> str:
        return self._accept(
            name,
            default or "",
            lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None,
            why,
            required=default is None,
            missing=missing,
        )

    def url(self, name: str, *, required: bool = False) -> str:
        return self._accept(name, "", _is_web_url, "Use an https:// URL.", required=required)

    def entries(self, name: str) -> list[Any]:
        return self._accept(name, [], lambda value: isinstance(value, list), "Use a list.")

    def credentials(self, *, needed_for: str = "") -> tuple[str, str]:
        """Read the Account SID and the auth token that Twilio's request must be signed with."""
        why = f"{needed_for} is paid by your Twilio account. " if needed_for else ""
        account_sid = self.matching(
            "twilioAccountSid",
            ACCOUNT_SID,
            "Use the Account SID: AC and 32 hex digits.",
            missing=why and f"{why}Name the account that the call comes from.",
        )
        auth_token = self.text(
            "twilioAuthToken",
            most=LONGEST_AUTH_TOKEN,
            missing=why and f"{why}Add the auth token that its requests are signed with.",
            required=True,
        )
        return account_sid, auth_token

    def _accept(
        self,
        name: str,
        default: T,
        accepts: Callable[[Any], bool],
        why: str,
        *,
        required: bool = False,
        missing: str = "",
    ) -> T:
        return self._read(
            name,
            default,
            lambda value: "" if accepts(value) else why,
            required=required,
            missing=missing,
        )

    def _read(
        self,
        name: str,
        default: T,
        problem_of: Callable[[Any], str],
        *,
        required: bool,
        missing: str = "",
    ) -> T:
        value = self.body.get(name)
        if value is None or value == "":
            if required:
                self.problems.add(name, missing or "This field is required.")
            return default
        if problem := problem_of(value):
            self.problems.add(name, problem)
            return default
        return cast(T, value)


def text_problem(value: Any, most: int) -> str:
    """Return why a value is no text that can be used; ``""`` if it is one."""
    if not isinstance(value, str):
        return "Use a string."
    if len(value) > most:
        return f"Use at most {most:,} characters."
    if not is_storable(value):
        return "Leave out control characters other than tabs and line breaks."
    return ""


def _header_problem(value: Any) -> str:
    is_plain = isinstance(value, str) and _VISIBLE_ASCII.fullmatch(value)
    return "" if is_plain else "Use a string without spaces."


def _is_web_url(value: Any) -> bool:
    """Whether the text is an absolute http(s) URL; which hosts may be called is no matter here."""
    if not isinstance(value, str) or len(value) > LONGEST_URL:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
