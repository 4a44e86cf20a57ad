"""Signing up, in and out, with a session."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import logout
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from accounts.email_addresses import normalize_email
from accounts.models import Account
from accounts.password_rules import MAX_PASSWORD_LENGTH, PASSWORD_HELP
from accounts.passwords import password_check
from accounts.proofs import session_begin, session_pend
from accounts.second_factors import has_second_factor
from accounts.services import account_authenticate, account_sign_up, email_taken
from accounts.throttling import login_attempt, may_look_up_email, registration_attempt
from billing.checkout import checkout_url_for
from core import zones
from core.errors import ApiError
from core.pages import page
from dashboard.forms import LineField, refuse


class SignupForm(forms.Form):
    email = forms.EmailField(
        label="Email", max_length=254, widget=forms.EmailInput({"autocomplete": "email"})
    )
    password = forms.CharField(
        max_length=MAX_PASSWORD_LENGTH,
        strip=False,
        help_text=PASSWORD_HELP,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
    )
    company_name = LineField(
        label="Company",
        max_length=200,
        required=False,
        widget=forms.TextInput({"autocomplete": "organization"}),
    )
    # A script fills it in. Without one, or with an unknown zone, it is UTC until it is changed.
    time_zone = forms.CharField(
        required=False, widget=forms.HiddenInput({"data-own-time-zone": True})
    )

    def clean_time_zone(self) -> str:
        zone = self.cleaned_data["time_zone"]
        return zone if zone in zones.names() else "UTC"


class LoginForm(forms.Form):
    email = forms.EmailField(
        label="Email",
        max_length=254,
        widget=forms.EmailInput({"autocomplete": "username", "autofocus": True}),
    )
    password = forms.CharField(
        max_length=MAX_PASSWORD_LENGTH,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "current-password"}),
    )


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    """Create an account, sign in, and redirect to checkout; to the dashboard if Stripe is down."""
    form = SignupForm(request.POST or None)
    if form.is_valid():
        try:
            with registration_attempt(request, email=form.cleaned_data["email"]):
                account = account_sign_up(**form.cleaned_data)
        except (ApiError, ValidationError) as refusal:
            refuse(form, refusal)
        else:
            session_begin(request, account)
            return redirect(checkout_url_for(account) or "overview")
    if form.errors:
        _find_more(request, form)
    return _form(request, "dashboard/sign_up.html", form)


@sensitive_variables()
def _find_more(request: HttpRequest, form: SignupForm) -> None:
    """Add the errors that only the service finds, so that all are shown at once."""
    given = form.cleaned_data
    email = given.get("email", "")
    candidate = Account(email=normalize_email(email), company_name=given.get("company_name", ""))
    if "password" in given:
        try:
            password_check(given["password"], candidate)
        except ValidationError as refusal:
            refuse(form, refusal)
    if email and may_look_up_email(request) and Account.objects.with_email(email).exists():
        refuse(form, email_taken())


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def log_in(request: HttpRequest) -> HttpResponse:
    form = LoginForm(request.POST or None)
    if form.is_valid():
        try:
            with login_attempt(request, email=form.cleaned_data["email"]):
                account = account_authenticate(**form.cleaned_data)
        except ApiError as refusal:
            refuse(form, refusal)
        else:
            return _go_on(request, account)
    return _form(request, "dashboard/log_in.html", form, next=next_of(request))


def _go_on(request: HttpRequest, account: Account) -> HttpResponse:
    """Begin the session, or ask for the second factor first if the account has one."""
    if has_second_factor(account):
        session_pend(request, account)
        return redirect(f"{reverse('second-step')}?{urlencode({'next': next_of(request)})}")
    session_begin(request, account)
    return HttpResponseRedirect(next_of(request))


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("landing")


def _form(request: HttpRequest, template: str, form: forms.Form, **context: Any) -> HttpResponse:
    status = 400 if form.is_bound else 200
    return page(request, template, {"form": form, **context}, status=status)


def next_of(request: HttpRequest) -> str:
    """Return where to go next: the page of this site that was requested, or the dashboard."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts=None, require_https=request.is_secure()
    )
    return wanted if is_ours else reverse("overview")


urlpatterns = [
    path("signup", sign_up, name="sign-up"),
    path("login", log_in, name="log-in"),
    path("logout", log_out, name="log-out"),
]
