"""A Twilio webhook as it was received."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from django.http import QueryDict

from core.texts import cleaned_line
from telephony.voice.signatures import is_signed_webhook

# Twilio sends this for most callers who withhold their number. For others it sends nothing.
ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class TwilioForm:
    """A request from Twilio: its form, the path (with query) it was posted to, its signature."""

    fields: QueryDict
    path: str
    signature: str

    @property
    def call_sid(self) -> str:
        return self.fields.get("CallSid") or ""

    @property
    def account_sid(self) -> str:
        return self.fields.get("AccountSid") or ""

    @property
    def caller(self) -> str:
        return self.line("From", 64) or ANONYMOUS

    @property
    def called(self) -> str:
        return self.line("To", 64)

    def line(self, name: str, longest: int) -> str:
        """Return a field that the caller may influence, cleaned, so that no call fails because of
        it. Twilio's signature covers the original fields.
        """
        return cleaned_line(self.fields.get(name) or "")[:longest]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that is signed, and of the signature. A retry by Twilio has the
        same.
        """
        whole = json.dumps([self.path, self.signature, sorted(self.fields.lists())])
        return hashlib.sha256(whole.encode()).hexdigest()

    def is_signed_with(self, auth_token: str) -> bool:
        return is_signed_webhook(self.path, self.fields, self.signature, auth_token)
