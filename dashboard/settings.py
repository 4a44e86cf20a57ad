"""``/dashboard/settings``: email, password, company, time zone, limits, deleting the account."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.email_addresses import normalize_email
from accounts.password_rules import MAX_PASSWORD_LENGTH
from accounts.passwords import password_change, password_check, password_require
from accounts.second_factors import second_factors
from accounts.services import MAX_ACTIVE_KEYS, company_rename, email_change, time_zone_change
from accounts.sudo import needs_second_factor, needs_sudo
from accounts.throttling import login_attempt, mail_request
from billing.closing import customer_update_soon
from core import zones
from core.errors import ApiError
from core.pages import page
from dashboard.access import PageRequest, for_customer
from dashboard.confirmation import CONFIRMATIONS
from dashboard.form_views import empty_forms, form_view
from dashboard.forms import LineField, with_more
from dashboard.passwords import NewPasswordForm
from dashboard.rendering import dashboard_page
from operations.closing import account_delete
from telephony.engine.plan import LONGEST_CALL_S
from telephony.models import Call
from telephony.numbers import RESTS_FOR


class CurrentPasswordForm(forms.Form):
    current_password = forms.CharField(
        label="Your password",
        max_length=MAX_PASSWORD_LENGTH,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "current-password"}),
    )


class EmailForm(forms.Form):
    email = forms.EmailField(
        label="New email address",
        max_length=254,
        widget=forms.EmailInput({"autocomplete": "email"}),
    )


class PasswordForm(NewPasswordForm, CurrentPasswordForm):
    """Asks for the current password every time.

    A separate page that asks for it would have to carry the new password.
    """

    field_order = ["current_password", "password"]


class CompanyForm(forms.Form):
    company_name = LineField(
        label="Company",
        max_length=200,
        required=False,
        widget=forms.TextInput({"autocomplete": "organization"}),
    )


class TimeZoneForm(forms.Form):
    time_zone = LineField(
        label="Time zone",
        max_length=zones.LONGEST_NAME,
        widget=forms.TextInput({"list": "time-zones", "autocomplete": "off"}),
    )


class DeletionForm(forms.Form):
    email = forms.EmailField(
        label="Your email address",
        max_length=254,
        widget=forms.EmailInput({"autocomplete": "off"}),
    )


_FORMS: dict[str, type[forms.Form]] = {
    "email": EmailForm,
    "password": PasswordForm,
    "company": CompanyForm,
    "zone": TimeZoneForm,
    "deletion": DeletionForm,
}


def _show(
    request: PageRequest, bound: Mapping[str, forms.Form], *, status: int = 200
) -> HttpResponse:
    initial = {
        "company": {"company_name": request.user.company_name},
        "zone": {"time_zone": request.user.time_zone},
    }
    context = {
        "forms": {**empty_forms(_FORMS, initial), **bound},
        "second_factors": second_factors(request.user).count(),
        "keys": request.user.api_keys.active().count(),
        "most_keys": MAX_ACTIVE_KEYS,
        "longest_call": f"{LONGEST_CALL_S // 60} min",
        "countries": settings.ALLOWED_COUNTRIES,
        "sends_mail": settings.SENDS_MAIL,
        "time_zones": _offered_time_zones(),
        "now": timezone.now(),
        "rests_for": RESTS_FOR,
        **_concurrency(request),
    }
    return dashboard_page(request, "settings", "dashboard/settings.html", context, status=status)


_form_view = partial(form_view, _FORMS, _show)


@for_customer
@require_safe
def index(request: PageRequest) -> HttpResponse:
    return _show(request, {})


@for_customer
@require_safe
def concurrency(request: PageRequest) -> HttpResponse:
    """Return the part of the page with the number of calls in progress, for htmx."""
    return render(request, "dashboard/settings_concurrency.html", _concurrency(request))


@_form_view("email", guard=needs_sudo)
def change_email(request: PageRequest, sent: dict[str, Any]) -> HttpResponse:
    account = request.user
    if normalize_email(sent["email"]) == account.email:
        raise ValidationError({"email": ["This is already your email address."]})
    for to in (account.pk, sent["email"]):
        mail_request(request, what=CONFIRMATIONS, to=to)
    with transaction.atomic():
        email_change(account=account, email=sent["email"])
        customer_update_soon(account=account)
    if settings.SENDS_MAIL:
        text = f"Email changed to {account.email}. We sent a link there to confirm it."
    else:
        text = f"Email changed to {account.email}."
    messages.success(request, text)
    return redirect("settings")


@_form_view("password", guard=needs_second_factor)
def change_password(request: PageRequest, sent: dict[str, Any]) -> HttpResponse:
    account, password = request.user, sent["password"]
    try:
        with login_attempt(request, email=account.email):
            password_require(account, sent["current_password"])
    except ApiError as refusal:
        raise with_more(refusal, lambda: password_check(password, account)) from None
    password_change(account=account, password=password)
    update_session_auth_hash(request, request.user)
    messages.success(request, "Password changed. All other sessions were signed out.")
    return redirect("settings")


@_form_view("company")
def change_company(request: PageRequest, sent: dict[str, Any]) -> HttpResponse:
    with transaction.atomic():
        company_rename(account=request.user, company_name=sent["company_name"])
        customer_update_soon(account=request.user)
    messages.success(request, "Company name saved.")
    return redirect("settings")


@_form_view("zone")
def change_time_zone(request: PageRequest, sent: dict[str, Any]) -> HttpResponse:
    time_zone_change(account=request.user, time_zone=sent["time_zone"])
    messages.success(request, "Time zone saved.")
    return redirect("settings")


@_form_view("deletion", guard=needs_sudo)
def delete(request: PageRequest, sent: dict[str, Any]) -> HttpResponse:
    if normalize_email(sent["email"]) != request.user.email:
        raise ValidationError({"email": [f"Enter {request.user.email} to delete the account."]})
    account_delete(account=request.user)
    logout(request)
    return redirect("account-deleted")


@never_cache
@require_safe
def deleted(request: HttpRequest) -> HttpResponse:
    return page(request, "dashboard/account_deleted.html")


@cache
def _offered_time_zones() -> SafeString:
    options = zones.places()
    return format_html_join("", '<option value="{}">{}</option>', options)


def _concurrency(request: PageRequest) -> dict[str, int]:
    live = Call.objects.of(request.user).live().count()
    return {"live_calls": live, "most_calls": settings.MAX_CONCURRENT_CALLS}


urlpatterns = [
    path("dashboard/settings", index, name="settings"),
    path("dashboard/settings/concurrency", concurrency, name="settings-concurrency"),
    path("dashboard/settings/email", change_email, name="change-email"),
    path("dashboard/settings/password", change_password, name="change-password"),
    path("dashboard/settings/company", change_company, name="change-company"),
    path("dashboard/settings/time-zone", change_time_zone, name="change-time-zone"),
    path("dashboard/settings/delete", delete, name="delete-account"),
    path("account-deleted", deleted, name="account-deleted"),
]
