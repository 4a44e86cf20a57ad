"""Accounts, and the identifiers that a carrier assigns."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

_ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
_E164 = re.compile(r"\+(1[0-9]{10}|[2-9][0-9]{6,14})")


@dataclass(frozen=True, slots=True)
class CarrierAccount:
    """A customer of the carrier; the token signs the requests to it."""

    sid: str
    token: str = field(repr=False)


class Accounts:
    """The carrier's customers. An account exists from its first use, and its token never changes.

    So a developer may use any account here, and still notices a wrong token.
    """

    def __init__(self, *accounts: CarrierAccount) -> None:
        self._accounts = {account.sid: account for account in accounts}

    def find(self, sid: str) -> CarrierAccount | None:
        """Return an account that was used before."""
        return self._accounts.get(sid)

    def authenticate(self, sid: str, token: str) -> CarrierAccount | None:
        if not (is_account_sid(sid) and token):
            return None
        account = self._accounts.setdefault(sid, CarrierAccount(sid, token))
        return account if account.token == token else None


def new_sid(prefix: str) -> str:
    """Return an identifier such as ``CA`` and 32 hex digits."""
    return prefix + secrets.token_hex(16)


def is_account_sid(text: str) -> bool:
    return _ACCOUNT_SID.fullmatch(text) is not None


def is_phone_number(text: str) -> bool:
    """Return True for a number in E.164; ``+1`` is followed by ten digits."""
    return _E164.fullmatch(text) is not None
