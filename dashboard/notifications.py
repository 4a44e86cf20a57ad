"""``/dashboard/settings/notifications``: how the owner is told about failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from accounts.throttling import account_attempt
from core.errors import ApiError
from dashboard.access import PageRequest, View, for_customer
from dashboard.forms import LineField, refuse
from dashboard.rendering import dashboard_page
from telephony import notices


class EmailsForm(forms.Form):
    calls = forms.BooleanField(label="Calls that fail", required=False)
    callbacks = forms.BooleanField(
        label="Callbacks that your backend does not accept", required=False
    )


class WebhookForm(forms.Form):
    url = LineField(
        label="Webhook URL",
        max_length=2000,
        widget=forms.URLInput(
            {
                "autocomplete": "off",
                "data-secret": True,  # whoever knows it can post to the channel
                "spellcheck": "false",
                "placeholder": "https://hooks.slack.com/services/…",
            }
        ),
    )


_FORMS: dict[str, type[forms.Form]] = {"emails": EmailsForm, "webhook": WebhookForm}

Act = Callable[[PageRequest, dict[str, Any]], None]


@for_customer
@require_safe
def notifications(request: PageRequest) -> HttpResponse:
    return _show(request)


def _form_view(name: str) -> Callable[[Act], View]:
    """Serve the POST of one form. Errors are shown in it, next to the other one."""

    def decorate(act: Act) -> View:
        @sensitive_post_parameters()
        @for_customer
        @require_POST
        @sensitive_variables()
        def served(request: PageRequest) -> HttpResponse:
            form = _FORMS[name](request.POST, auto_id=f"{name}_%s")
            if form.is_valid():
                try:
                    act(request, form.cleaned_data)
                except (ApiError, ValidationError) as refusal:
                    refuse(form, refusal)
                else:
                    return redirect("notifications")
            return _show(request, {name: form}, status=400)

        return served

    return decorate


@_form_view("emails")
def change_emails(request: PageRequest, sent: dict[str, Any]) -> None:
    notices.emails_set(account=request.user, calls=sent["calls"], callbacks=sent["callbacks"])
    messages.success(request, "Email settings saved.")


@_form_view("webhook")
def change_webhook(request: PageRequest, sent: dict[str, Any]) -> None:
    notices.webhook_set(account=request.user, url=sent["url"])
    messages.success(request, "Webhook saved. Send a test message to check that it works.")


@for_customer
@require_POST
def remove_webhook(request: PageRequest) -> HttpResponse:
    notices.webhook_set(account=request.user, url="")
    messages.success(request, "Webhook removed.")
    return redirect("notifications")


@for_customer
@require_POST
def test_webhook(request: PageRequest) -> HttpResponse:
    if not notices.webhook_of(notices.settings_of(request.user.pk)):
        messages.error(request, "Set a webhook first.")
        return redirect("notifications")
    try:
        account_attempt(request.user, what="test messages")
    except ApiError as refusal:
        messages.error(request, refusal.message)
        return redirect("notifications")
    if problem := notices.webhook_test(account=request.user):
        messages.error(request, f"The webhook did not accept the test message. It {problem}.")
    else:
        messages.success(request, "The webhook accepted the test message.")
    return redirect("notifications")


def _show(
    request: PageRequest, bound: dict[str, forms.Form] | None = None, *, status: int = 200
) -> HttpResponse:
    chosen = notices.settings_of(request.user.pk)
    initial = {"emails": {"calls": chosen.emails_calls, "callbacks": chosen.emails_callbacks}}
    shown = {
        name: form(auto_id=f"{name}_%s", initial=initial.get(name)) for name, form in _FORMS.items()
    }
    context = {
        "forms": shown | (bound or {}),
        "settings": chosen,
        "webhook": notices.masked(notices.webhook_of(chosen)),
    }
    return dashboard_page(
        request, "settings", "dashboard/notifications.html", context, status=status
    )


urlpatterns = [
    path("dashboard/settings/notifications", notifications, name="notifications"),
    path("dashboard/settings/notifications/emails", change_emails, name="change-emails"),
    path("dashboard/settings/notifications/webhook", change_webhook, name="change-webhook"),
    path("dashboard/settings/notifications/webhook/test", test_webhook, name="test-webhook"),
    path("dashboard/settings/notifications/webhook/remove", remove_webhook, name="remove-webhook"),
]
