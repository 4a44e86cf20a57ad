"""The environment: reads variables, and collects all that is wrong with them.

Whatever is wrong is reported with ``Environment.refuse``, and replaced by a value that causes no
further problems. So the settings load to their end, and name everything at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured

from config.unsafe import bad_address, bad_database, bad_link

_ON = ("1", "true", "yes", "on")
_OFF = ("0", "false", "no", "off")

Number = TypeVar("Number", int, Decimal)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a variable: ``fault`` ends a sentence that begins with its name.

    It says what to do as well, and contains no secret.
    """

    name: str
    fault: str

    def __str__(self) -> str:
        return f"{self.name} {self.fault}"


class Misconfigured(ImproperlyConfigured):
    """The environment has problems: one line for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        lines = [str(problem) for problem in problems]
        if len(lines) > 1:
            lines.insert(0, f"{len(lines)} environment variables are missing or wrong:")
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)


class Environment:
    """Variables by name. An empty one is the same as one that is not set."""

    #: True in ``manage.py doctor``, which says what is wrong itself and then looks further.
    is_tolerant = False

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[Problem] = []
        self.names: set[str] = set()
        self.debug = self.flag("DEBUG", default=False)
        if not self.is_good("DEBUG"):
            # Nothing is demanded then that only production has to have.
            self.debug = True

    def refuse(self, name: str, fault: str) -> bool:
        """Report a problem, unless ``fault`` is empty; return True if it is not.

        Only the first problem of a variable counts: others follow from it.
        """
        if fault and self.is_good(name):
            self.problems.append(Problem(name, fault))
        return bool(fault)

    def refuse_in_production(self, name: str, fault: str) -> bool:
        """Report a problem like ``refuse``, unless this is development."""
        return not self.debug and self.refuse(name, fault)

    def is_good(self, name: str) -> bool:
        """Return True if the variable has no problem so far."""
        return all(problem.name != name for problem in self.problems)

    def raise_problems(self) -> None:
        """Raise ``Misconfigured`` if there are problems."""
        if self.problems and not self.is_tolerant:
            raise Misconfigured(self.problems)

    def text(self, name: str, default: str = "") -> str:
        self.names.add(name)
        return self._variables.get(name, "") or default

    def texts(self, name: str, default: Sequence[str] = ()) -> list[str]:
        """Return the texts between commas."""
        texts = [text.strip() for text in self.text(name).split(",")]
        return [text for text in texts if text] or list(default)

    def checked(self, name: str, check: Callable[[str], str], default: str = "") -> str:
        """Return a text, or the default for one in which ``check`` finds a fault."""
        text = self.text(name)
        return default if not text or self.refuse(name, check(text)) else text

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        text = self.text(name, default)
        if text in choices:
            return text
        *others, last = choices
        self.refuse(name, f"must be {', '.join(others)} or {last} (it is {text!r}).")
        return default

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name).strip().lower()
        if text not in ("", *_ON, *_OFF):
            self.refuse(name, f"must be 1 or 0 (it is {text!r}).")
            return default
        return text in _ON if text else default

    def number(
        self,
        name: str,
        default: Number,
        *,
        least: int = 0,
        most: int | None = None,
        decimals: int | None = None,
    ) -> Number:
        """Return a number of the default's type and in the range."""
        text = self.text(name, str(default))
        try:
            number = type(default)(text)
            is_in_range = number >= least and number <= (10**9 if most is None else most)
            is_exact = decimals is None or number == round(number, decimals)
        except (ValueError, ArithmeticError):
            is_in_range = is_exact = False
        if is_in_range and is_exact:
            return number
        kind = "whole number" if isinstance(default, int) else "number"
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        precision = "" if decimals is None else f" with at most {decimals} decimals"
        self.refuse(name, f"must be a {kind} {limits}{precision} (it is {text!r}).")
        return default

    def address(self, name: str, encrypted: str, default: str, *, takes_path: bool = True) -> str:
        """Return a URL without a trailing slash; unencrypted ones are only allowed with DEBUG."""
        address = self.text(name, default).rstrip("/")
        schemes = (encrypted.removesuffix("s"), encrypted) if self.debug else (encrypted,)
        if self.refuse(name, bad_address(address, schemes, takes_path=takes_path)):
            return f"{encrypted}://wrong.invalid"
        return address

    def own_address(
        self, name: str, encrypted: str, default: str, *, takes_path: bool = False
    ) -> str:
        """Return one of our public URLs, which production must set."""
        return self.address(name, encrypted, default if self.debug else "", takes_path=takes_path)

    def link(self, name: str) -> str:
        """Return the https:// URL of a page, or "" if the variable is not set."""
        return self.checked(name, bad_link)

    def database(self, name: str, url: str) -> dict[str, Any]:
        """Return Django's settings of the database at a URL, which is the variable's or a default.

        Nobody connects to the one that takes the place of a wrong one.
        """
        self.names.add(name)
        if self.refuse(name, bad_database(url)):
            url = "postgresql://127.0.0.1:1/wrong"
        return dict(environ.Env.db_url_config(url))
