"""``/dashboard/settings/notifications``: how the owner is told about failures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from accounts.throttling import account_attempt
from core.errors import ApiError
from dashboard.access import PageRequest, for_customer
from dashboard.form_views import empty_forms, form_view
from dashboard.forms import LineField
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


def _show(
    request: PageRequest, bound: Mapping[str, forms.Form], *, status: int = 200
) -> HttpResponse:
    chosen = notices.settings_of(request.user.pk)
    initial = {"emails": {"calls": chosen.emails_calls, "callbacks": chosen.emails_callbacks}}
    context = {
        "forms": {**empty_forms(_FORMS, initial), **bound},
        "settings": chosen,
        "webhook": notices.masked(notices.webhook_of(chosen)),
    }
    return dashboard_page(
        request, "settings", "dashboard/notifications.html", context, status=status
    )


_form_view = partial(form_view, _FORMS, _show)


@for_customer
@require_safe
def notifications(request: PageRequest) -> HttpResponse:
    return _show(request, {})


@_form_view("emails")
def change_emails(request: PageRequest, sent: dict[str, Any]) -> HttpResponse:
    notices.emails_set(account=request.user, calls=sent["calls"], callbacks=sent["callbacks"])
    messages.success(request, "Email settings saved.")
    return redirect("notifications")


@_form_view("webhook")
def change_webhook(request: PageRequest, sent: dict[str, Any]) -> HttpResponse:
    notices.webhook_set(account=request.user, url=sent["url"])
    messages.success(request, "Webhook saved. Send a test message to check that it works.")
    return redirect("notifications")


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


urlpatterns = [
    path("dashboard/settings/notifications", notifications, name="notifications"),
    path("dashboard/settings/notifications/emails", change_emails, name="change-emails"),
    path("dashboard/settings/notifications/webhook", change_webhook, name="change-webhook"),
    path("dashboard/settings/notifications/webhook/test", test_webhook, name="test-webhook"),
    path("dashboard/settings/notifications/webhook/remove", remove_webhook, name="remove-webhook"),
]
