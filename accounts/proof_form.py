"""The form that verifies a person's identity with a password, a code or a passkey."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

from allauth.mfa.models import Authenticator
from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts.mfa_adapter import passkeys_work
from accounts.models import Account
from accounts.password_rules import MAX_PASSWORD_LENGTH
from accounts.passwords import password_require
from accounts.second_factors import (
    MAX_CODE_LENGTH,
    PASSKEY,
    TOTP,
    code_require,
    passkey_request_options,
    passkey_require,
)
from accounts.throttling import login_attempt, second_factor_attempt
from core.errors import ApiError

MAX_CREDENTIAL_LENGTH = 16_000


class CredentialField(forms.CharField):
    """A browser's response for a passkey, as JSON; ``static/passkeys.js`` fills it in."""

    widget = forms.HiddenInput

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MAX_CREDENTIAL_LENGTH, **options)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value) or ""
        if len(text) > MAX_CREDENTIAL_LENGTH:
            return text  # too long: its validator rejects it
        try:
            said = json.loads(text) if text else None
        except (ValueError, RecursionError):
            said = text
        if text and not isinstance(said, dict):
            raise ValidationError("The passkey's response could not be read. Try again.")
        return said

    def run_validators(self, value: Any) -> None:
        if isinstance(value, str):
            super().run_validators(value)


class ProofForm(forms.Form):
    """Takes one proof and verifies it. Attempts are limited as for sign-in.

    Its fields depend on what the account has. The form is valid if the proof is.
    """

    prefix = "proof"

    password = forms.CharField(
        label="Password",
        max_length=MAX_PASSWORD_LENGTH,
        required=False,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "current-password"}),
    )
    code = forms.CharField(
        max_length=MAX_CODE_LENGTH,
        required=False,
        widget=forms.TextInput(
            {"autocomplete": "one-time-code", "inputmode": "numeric", "spellcheck": "false"}
        ),
    )
    credential = CredentialField(required=False)

    def __init__(
        self, request: HttpRequest, account: Account, *, data: Any, takes_password: bool
    ) -> None:
        super().__init__(data)
        self.request, self.account = request, account
        kinds = set(
            Authenticator.objects.filter(user=account).values_list("type", flat=True).order_by()
        )
        self.has_passkeys = PASSKEY in kinds and passkeys_work()
        if not takes_password:
            del self.fields["password"]
        if not self.has_passkeys:
            del self.fields["credential"]
        if not kinds:
            del self.fields["code"]
        elif TOTP in kinds:
            self.fields["code"].label = "Code from your authenticator app, or a recovery code"
        else:
            self.fields["code"].label = "Recovery code"
        if not self.has_passkeys:  # a passkey's button comes first
            next(iter(self.fields.values())).widget.attrs["autofocus"] = True

    @property
    def passkey_options(self) -> str:
        """The options for the browser's passkey prompt; each page has its own challenge."""
        return json.dumps(passkey_request_options(self.account))

    def clean(self) -> dict[str, Any]:
        given = {k: v for k, v in self.cleaned_data.items() if v not in (None, "")}
        if not self.errors and not given:
            self.add_error(next(iter(self.fields)), "This field is required.")
        # A passkey was just touched; a password may have been filled in by the browser.
        for name in ("credential", "code", "password"):
            if name in given and not self.errors:
                self._check(name, given[name])
                self.is_second_factor = name != "password"
                break
        return self.cleaned_data

    def _check(self, name: str, proof: Any) -> None:
        checks: dict[str, Any] = {
            "credential": passkey_require,
            "code": code_require,
            "password": password_require,
        }
        try:
            with self._attempt(name):
                checks[name](self.account, proof)
        except ApiError as refusal:
            message = next(iter(refusal.fields.values()))[0] if refusal.fields else refusal.message
            self.add_error(None if name == "credential" else name, message)

    def _attempt(self, name: str) -> AbstractContextManager[None]:
        if name == "password":
            return login_attempt(self.request, email=self.account.email)
        return second_factor_attempt(self.request, self.account)
