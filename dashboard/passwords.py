"""Resetting a forgotten password with an emailed link."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts.links import account_to_reset
from accounts.password_rules import MAX_PASSWORD_LENGTH, PASSWORD_HELP
from accounts.passwords import password_reset, password_reset_ask
from accounts.throttling import mail_request
from core.errors import ApiError
from core.pages import page
from dashboard.forms import refuse


class AskForm(forms.Form):
    email = forms.EmailField(
        label="Email", max_length=254, widget=forms.EmailInput({"autocomplete": "username"})
    )


class NewPasswordForm(forms.Form):
    """Takes a new password. The service checks it, because it knows whose it is."""

    password = forms.CharField(
        label="New password",
        max_length=MAX_PASSWORD_LENGTH,
        strip=False,
        help_text=PASSWORD_HELP,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest) -> HttpResponse:
    """Take an email address. The response is the same whether or not it has an account."""
    if not settings.SENDS_MAIL:
        return page(request, "dashboard/password_ask.html", {"cannot": True})
    form = AskForm(request.POST or None)
    if form.is_valid():
        email = form.cleaned_data["email"]
        try:
            mail_request(request, what="password resets", to=email)
        except ApiError as refusal:
            refuse(form, refusal)
        else:
            password_reset_ask(email=email)
            return page(request, "dashboard/password_ask.html", {"asked_for": email})
    status = 400 if form.is_bound else 200
    return page(request, "dashboard/password_ask.html", {"form": form}, status=status)


@sensitive_post_parameters()
@sensitive_variables()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def set_password(request: HttpRequest, id: str, token: str) -> HttpResponse:
    form = NewPasswordForm(request.POST or None)
    if account_to_reset(id, token) is None:
        return _void(request)
    if form.is_valid():
        try:
            password_reset(account_id=id, token=token, **form.cleaned_data)
        except ValidationError as refusal:
            refuse(form, refusal)
        except ApiError:  # the link was used in the meantime
            return _void(request)
        else:
            messages.success(request, "Password changed. Sign in with your new password.")
            return redirect("log-in")
    status = 400 if form.is_bound else 200
    return page(request, "dashboard/password_set.html", {"form": form}, status=status)


def _void(request: HttpRequest) -> HttpResponse:
    return page(request, "dashboard/password_set.html", {"void": True}, status=404)


urlpatterns = [
    path("password/reset", ask, name="reset-password"),
    path("password/reset/<str:id>/<str:token>", set_password, name="set-password"),
]
