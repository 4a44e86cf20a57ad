"""The carrier's numbers: whose they are, and where their calls go."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sandbox.phone.identity import is_phone_number

# The numbers that an account finds in its list, unless they are another account's.
STOCK = ("+15551234567", "+15551234568", "+15551234569")


@dataclass(slots=True)
class Number:
    """A number of an account. The names are those of Twilio's resource.

    Twilio ignores ``voice_url`` while the number has an application or a trunk.
    """

    account_sid: str
    phone_number: str
    friendly_name: str = ""
    voice_url: str = ""
    voice_method: str = "POST"
    voice_application_sid: str = ""
    trunk_sid: str = ""
    can_voice: bool = True
    changed_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def sid(self) -> str:
        digest = hashlib.md5(self.phone_number.encode(), usedforsecurity=False)
        return f"PN{digest.hexdigest()}"

    @property
    def rings_elsewhere(self) -> bool:
        return bool(self.voice_application_sid or self.trunk_sid)


class Numbers:
    """A number belongs to any account that asks, until it is given to one or one changes it.

    So a developer may use any account and number here, and still notices a number of another.
    """

    def __init__(self) -> None:
        self._owned: dict[str, Number] = {}
        self._known: dict[str, str] = {}  # SID → number, once it was listed

    def give(self, number: Number) -> Number:
        """Give a number to the account that it names, and to no other."""
        self._owned[number.phone_number] = self._note(number)
        return number

    def find(self, phone_number: str) -> Number | None:
        """Return a number that belongs to an account."""
        return self._owned.get(phone_number)

    def with_sid(self, account_sid: str, sid: str) -> Number | None:
        """Return a number of the account that it has seen in a list."""
        return self._of(account_sid, self._known.get(sid, ""))

    def listed(self, account_sid: str, pattern: str = "", name: str = "") -> list[Number]:
        """Return the account's numbers and those in stock, if they match.

        :param pattern: part of a number; ``*`` stands for any digit.
        """
        own = [number for number in self._owned.values() if number.account_sid == account_sid]
        others = (self._of(account_sid, number) for number in (*STOCK, pattern))
        found = {number.phone_number: number for number in (*others, *own) if number}
        looked_for = re.compile(re.escape(pattern).replace(r"\*", "[0-9]"))
        return [
            self._note(number)
            for number in found.values()
            if looked_for.search(number.phone_number) and name in ("", number.friendly_name)
        ]

    def _of(self, account_sid: str, phone_number: str) -> Number | None:
        """Return a number if the account has it or may have it."""
        owned = self._owned.get(phone_number)
        if owned is not None:
            return owned if owned.account_sid == account_sid else None
        return Number(account_sid, phone_number) if is_phone_number(phone_number) else None

    def _note(self, number: Number) -> Number:
        self._known[number.sid] = number.phone_number
        return number
