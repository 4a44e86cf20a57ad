"""The second factor: the step after the password, and its pages in the settings.

The secret of an authenticator app is kept sealed in the session until the app has shown a code.
Recovery codes appear once, on the page after the POST (``dashboard.shown_once``).
"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.mfa_adapter import PURPOSE, passkeys_work
from accounts.models import Account
from accounts.proof_form import CredentialField, ProofForm
from accounts.proofs import owes_second_factor, pending_account, prove_anew, session_begin
from accounts.second_factors import (
    MAX_CODE_LENGTH,
    MAX_PASSKEY_NAME_LENGTH,
    PASSKEY,
    TOTP,
    has_second_factor,
    passkey_add,
    passkey_creation_options,
    recovery_codes_left,
    recovery_codes_renew,
    second_factor_remove,
    second_factors,
    totp_add,
    totp_qr_code,
    totp_secret_new,
)
from accounts.sudo import needs_sudo
from accounts.throttling import second_factor_attempt
from core.errors import ApiError
from core.pages import page
from core.sealing import CannotUnseal, seal, unseal
from dashboard.access import PageRequest, for_customer
from dashboard.forms import refuse
from dashboard.rendering import dashboard_page
from dashboard.sessions import next_of
from dashboard.shown_once import put, take

_SECRET = "totp_secret"  # noqa: S105 (a name in the session)
_CODES = "recovery codes"


# After the password.


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def second_step(request: HttpRequest) -> HttpResponse:
    """Ask for the second factor after the password, then begin the session."""
    account = _in_between(request)
    if account is None:
        return redirect(f"{reverse('log-in')}?{urlencode({'next': next_of(request)})}")
    form = ProofForm(request, account, data=request.POST or None, takes_password=False)
    if form.is_valid():
        session_begin(request, account, second_factor=True)
        return HttpResponseRedirect(next_of(request))
    context = {"form": form, "next": next_of(request), "account": account}
    status = 400 if form.is_bound else 200
    return page(request, "dashboard/second_step.html", context, status=status)


def _in_between(request: HttpRequest) -> Account | None:
    """Return the account that has only given its password, now or before it had a second factor."""
    account = pending_account(request)
    if account:
        return account if has_second_factor(account) else None
    user = request.user
    return user if isinstance(user, Account) and owes_second_factor(request, user) else None


# In the settings.


class AppForm(forms.Form):
    code = forms.CharField(
        label="Code from the app",
        max_length=MAX_CODE_LENGTH,
        widget=forms.TextInput({"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )


class PasskeyForm(forms.Form):
    name = forms.CharField(
        max_length=MAX_PASSKEY_NAME_LENGTH,
        help_text="A name to recognize it by, such as Laptop.",
        widget=forms.TextInput({"autocomplete": "off"}),
    )
    credential = CredentialField(
        error_messages={"required": "Your browser did not create a passkey. Try again."}
    )


@for_customer
@require_safe
def index(request: PageRequest) -> HttpResponse:
    known = list(second_factors(request.user))
    context = {
        "factors": [
            {"record": record, "name": str(record) if record.type == PASSKEY else ""}
            for record in known
        ],
        "has_app": any(record.type == TOTP for record in known),
        "passkeys_work": passkeys_work(),
        "public_url": settings.PUBLIC_URL,
        "codes_left": recovery_codes_left(request.user) if known else 0,
        "must_have": request.user.is_staff and not known,
        "onward": _onward(request),
    }
    return dashboard_page(request, "settings", "dashboard/second_factor.html", context)


@sensitive_post_parameters()
@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
@needs_sudo
@sensitive_variables()
def app(request: PageRequest) -> HttpResponse:
    """Show the secret for an authenticator app, and verify its first code."""
    account, secret = request.user, _pending_secret(request)
    if second_factors(account).filter(type=TOTP).exists():
        return _back(request)
    form = AppForm(request.POST or None)
    if form.is_valid():
        try:
            with second_factor_attempt(request, account):
                codes = totp_add(account=account, secret=secret, code=form.cleaned_data["code"])
        except ApiError as refusal:
            refuse(form, refusal)
        else:
            del request.session[_SECRET]
            return _added(request, codes, "Authenticator app added.")
    context = {
        "form": form,
        "secret": " ".join(secret[i : i + 4] for i in range(0, len(secret), 4)),
        "qr_code": totp_qr_code(account, secret),
        "onward": _onward(request),
    }
    status = 400 if form.is_bound else 200
    return dashboard_page(
        request, "settings", "dashboard/second_factor_app.html", context, status=status
    )


def _pending_secret(request: PageRequest) -> str:
    """Return the secret that the page shows; it stays the same when the page is reloaded."""
    try:
        return unseal(request.session[_SECRET].encode(), purpose=PURPOSE).decode()
    except (KeyError, CannotUnseal):
        secret = totp_secret_new()
        request.session[_SECRET] = seal(secret.encode(), purpose=PURPOSE).decode()
        return secret


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
@needs_sudo
def passkey(request: PageRequest) -> HttpResponse:
    """Have the browser create a passkey."""
    if not passkeys_work():
        return _back(request)
    form = PasskeyForm(request.POST or None)
    if form.is_valid():
        try:
            codes = passkey_add(account=request.user, **form.cleaned_data)
        except ApiError as refusal:
            refuse(form, refusal)
        else:
            return _added(request, codes, "Passkey added.")
    context = {
        "form": form,
        "options": json.dumps(passkey_creation_options(request.user)),
        "onward": _onward(request),
    }
    status = 400 if form.is_bound else 200
    return dashboard_page(
        request, "settings", "dashboard/second_factor_passkey.html", context, status=status
    )


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
@needs_sudo
@sensitive_variables()
def codes(request: PageRequest) -> HttpResponse:
    """Generate recovery codes, and redirect to this page, which shows them this once."""
    if request.method != "POST":
        return _show_codes(request)
    try:
        renewed = recovery_codes_renew(account=request.user)
    except ApiError as refusal:
        messages.error(request, refusal.message)
        return redirect("second-factor")
    return _to_codes(request, renewed)


@for_customer
@require_POST
@needs_sudo
def remove(request: PageRequest, id: str) -> HttpResponse:
    try:
        second_factor_remove(account=request.user, id=id)
    except ApiError as refusal:
        if refusal.status_code == 404:
            raise
        messages.error(request, refusal.message)
    else:
        messages.success(request, "Second factor removed.")
    return redirect("second-factor")


def _added(request: PageRequest, codes: list[str], text: str) -> HttpResponse:
    """Mark the session as verified. The first factor comes with recovery codes, to be shown."""
    prove_anew(request.session, second_factor=True)
    messages.success(request, text)
    return _to_codes(request, codes) if codes else _back(request)


@sensitive_variables()
def _to_codes(request: PageRequest, codes: list[str]) -> HttpResponse:
    put(request.session, _CODES, codes)
    onward = _onward(request)
    return redirect(
        reverse("second-factor-codes") + (f"?{urlencode({'next': onward})}" if onward else "")
    )


@sensitive_variables()
def _show_codes(request: PageRequest) -> HttpResponse:
    codes = take(request.session, _CODES) if request.method == "GET" else None
    if codes is None:
        return redirect("second-factor")
    context: dict[str, Any] = {
        "codes": "\n".join(f"{code[:4]} {code[4:]}" for code in codes),
        "onward": _onward(request),
    }
    return dashboard_page(request, "settings", "dashboard/second_factor_codes.html", context)


def _back(request: PageRequest) -> HttpResponse:
    return redirect(_onward(request) or "second-factor")


def _onward(request: PageRequest) -> str:
    """Return the page that redirected here, to return to it; "" if there is none."""
    wanted = next_of(request)
    return wanted if wanted != reverse("overview") else ""


urlpatterns = [
    path("login/second-factor", second_step, name="second-step"),
    path("dashboard/settings/second-factor", index, name="second-factor"),
    path("dashboard/settings/second-factor/app", app, name="second-factor-app"),
    path("dashboard/settings/second-factor/passkey", passkey, name="second-factor-passkey"),
    path("dashboard/settings/second-factor/codes", codes, name="second-factor-codes"),
    path("dashboard/settings/second-factor/<str:id>/remove", remove, name="second-factor-remove"),
]
