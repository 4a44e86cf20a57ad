"""The page of API keys and of the webhook secret.

A secret appears once, on the page after the POST (``dashboard.shown_once``): in no URL or message,
and no browser caches it.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import ApiKey
from accounts.services import (
    MAX_ACTIVE_KEYS,
    api_key_create,
    api_key_revoke,
    webhook_secret_rotate,
    webhook_secret_show,
)
from accounts.sudo import needs_sudo
from core.errors import ApiError
from dashboard.access import PageRequest, for_customer
from dashboard.forms import LineField, refuse
from dashboard.rendering import dashboard_page
from dashboard.shown_once import put, take


class NewKeyForm(forms.Form):
    label = LineField(
        max_length=100,
        required=False,
        help_text="What you use it for, such as Production.",
        widget=forms.TextInput({"autocomplete": "off"}),
    )


_NEW_KEY, _WEBHOOK_SECRET = "API key", "webhook secret"


@for_customer
@require_safe
@sensitive_variables()
def keys(request: PageRequest) -> HttpResponse:
    shown = {}
    if request.method == "GET":  # and not HEAD, which nobody would see
        shown["new"] = take(request.session, _NEW_KEY)
        shown["secret"] = take(request.session, _WEBHOOK_SECRET)
    return _page(request, form=NewKeyForm(), **shown)


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
@needs_sudo
@sensitive_variables()
def new_key(request: PageRequest) -> HttpResponse:
    """Create a key, and redirect to the page, which shows it this once."""
    if request.method != "POST":
        return redirect("keys")
    form = NewKeyForm(request.POST)
    if form.is_valid():
        try:
            new = api_key_create(account=request.user, **form.cleaned_data)
        except (ApiError, ValidationError) as refusal:
            refuse(form, refusal)
        else:
            shown = {"label": new.api_key.label, "plain": new.plain}
            put(request.session, _NEW_KEY, shown)
            return redirect(f"{reverse('keys')}#new")
    return _page(request, status=400, form=form)


@for_customer
@require_POST
@needs_sudo
def revoke_key(request: PageRequest, id: str) -> HttpResponse:
    key = ApiKey.objects.active().access(request.user, id)
    api_key_revoke(account=request.user, id=key.id)
    messages.success(request, f"Revoked the key {key}.")
    return redirect("keys")


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
@needs_sudo
@sensitive_variables()
def webhook_secret(request: PageRequest) -> HttpResponse:
    """Redirect to the page, which shows the secret this once."""
    if request.method == "POST":
        put(request.session, _WEBHOOK_SECRET, webhook_secret_show(account=request.user))
    return redirect(f"{reverse('keys')}#secret")


@for_customer
@require_POST
@needs_sudo
def rotate_webhook_secret(request: PageRequest) -> HttpResponse:
    """Rotate the secret, and redirect, so that reloading the page does not rotate it again."""
    webhook_secret_rotate(account=request.user)
    messages.success(
        request, "Webhook secret rotated. For 24 hours, callbacks are also signed with the old one."
    )
    return redirect(f"{reverse('keys')}#secret")


@sensitive_variables()
def _page(request: PageRequest, *, status: int = 200, **context: Any) -> HttpResponse:
    record = request.user.webhook_secret
    known = {
        "keys": ApiKey.objects.of(request.user).active().newest_first(),
        "most_keys": MAX_ACTIVE_KEYS,
        "previous_valid_until": record.previous_valid_until(timezone.now()),
    }
    return dashboard_page(request, "keys", "dashboard/keys.html", known | context, status=status)


urlpatterns = [
    path("dashboard/keys", keys, name="keys"),
    path("dashboard/keys/new", new_key, name="key-new"),
    path("dashboard/keys/<str:id>/revoke", revoke_key, name="key-revoke"),
    path("dashboard/keys/secret", webhook_secret, name="webhook-secret"),
    path("dashboard/keys/secret/rotate", rotate_webhook_secret, name="webhook-secret-rotate"),
]
