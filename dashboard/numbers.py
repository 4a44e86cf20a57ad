"""The room of the numbers: which there are, and who is asked about their calls."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import require_active
from config.errors import ApiError
from dashboard.access import PageRequest, for_customer, reason_not_active
from dashboard.call_words import outcome_label, outcome_tone
from dashboard.forms import checked, refuse
from dashboard.rendering import room
from telephony.api.phone_numbers import ChangesSerializer, RegistrationSerializer
from telephony.models import PhoneNumber
from telephony.numbers import (
    numbers_with_last_calls,
    phone_number_register,
    phone_number_remove,
    phone_number_update,
)

HERE = "/dashboard/numbers"

# The API's names of what the forms ask for.
_URLS = {
    "onCallStartUrl": "on_call_start_url",
    "onCallEndUrl": "on_call_end_url",
    "onErrorUrl": "on_error_url",
}
_NAMES = {"phoneNumber": "phone_number", "isActive": "is_active", **_URLS}


class UrlsForm(forms.Form):
    """Who is asked about a number's calls. What is a usable URL, the API's serializers say."""

    on_call_start_url = forms.CharField(
        label="onCallStart URL",
        help_text="Your backend is asked here how a call is handled.",
        widget=forms.URLInput({"placeholder": "https://your-backend.com/calls/start"}),
    )
    on_call_end_url = forms.CharField(
        label="onCallEnd URL",
        help_text="It is told here how the call went, with the transcript and what it cost.",
        widget=forms.URLInput({"placeholder": "https://your-backend.com/calls/end"}),
    )
    on_error_url = forms.CharField(
        label="onError URL",
        required=False,
        help_text="It is told here what went wrong with a call.",
        widget=forms.URLInput({"placeholder": "https://your-backend.com/calls/error"}),
    )

    def urls(self) -> dict[str, str | None]:
        """Return the URLs as the API takes them."""
        return {name: self.cleaned_data[field] or None for name, field in _URLS.items()}


class RegistrationForm(UrlsForm):
    phone_number = forms.CharField(
        label="Phone number",
        help_text="A US number of yours at Twilio, like +15551234567.",
        widget=forms.TextInput({"inputmode": "tel", "autocomplete": "off"}),
    )

    field_order = ["phone_number"]


class ChangesForm(UrlsForm):
    is_active = forms.BooleanField(
        label="Take calls",
        required=False,
        help_text="While it is off, callers are rejected and no call can be placed from it.",
    )


@for_customer
@require_safe
def numbers(request: PageRequest) -> HttpResponse:
    known = [
        {
            "number": number,
            "call": call,
            "label": outcome_label(call) if call else "",
            "tone": outcome_tone(call) if call else "",
        }
        for number, call in numbers_with_last_calls(request.user)
    ]
    return _page(request, "dashboard/numbers.html", {"numbers": known})


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
def new_number(request: PageRequest) -> HttpResponse:
    """Register a number. One that is the account's already gets the new URLs, as with the API."""
    form = RegistrationForm(request.POST or None)
    if request.method == "POST":
        require_active(request.user)
    if form.is_valid():
        body = {"phoneNumber": form.cleaned_data["phone_number"], **form.urls()}
        try:
            number, is_new = phone_number_register(
                account=request.user, **_filled(checked(RegistrationSerializer, body))
            )
        except ApiError as refusal:
            _refuse(form, refusal)
        else:
            text = "is registered" if is_new else "was registered already, and has the new URLs now"
            messages.success(request, f"{number} {text}.")
            return redirect(HERE)
    return _form(request, "dashboard/number_new.html", form)


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
def number(request: PageRequest, id: str) -> HttpResponse:
    """Show a number's URLs, and change them."""
    found = PhoneNumber.objects.access(request.user, id)
    if request.method == "POST":
        require_active(request.user)
        form = ChangesForm(request.POST)
    else:
        form = ChangesForm(initial={name: getattr(found, name) for name in ChangesForm.base_fields})
    if form.is_valid():
        body = {"isActive": form.cleaned_data["is_active"], **form.urls()}
        try:
            phone_number_update(
                account=request.user, id=found.id, **checked(ChangesSerializer, body)
            )
        except ApiError as refusal:
            _refuse(form, refusal)
        else:
            messages.success(request, f"{found} is saved.")
            return redirect(HERE)
    return _form(request, "dashboard/number.html", form, number=found)


@for_customer
@require_POST
def remove_number(request: PageRequest, id: str) -> HttpResponse:
    require_active(request.user)
    found = PhoneNumber.objects.access(request.user, id)
    phone_number_remove(account=request.user, id=found.id)
    messages.success(request, f"{found} is removed. Its calls stay.")
    return redirect(HERE)


def _form(request: PageRequest, template: str, form: forms.Form, **context: Any) -> HttpResponse:
    status = 400 if form.is_bound else 200
    return _page(request, template, {"form": form, **context}, status=status)


def _page(
    request: PageRequest, template: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    known = {
        "voice_url": f"{settings.ENGINE_URL}/voice",
        "not_active": reason_not_active(request.user),
    }
    return room(request, HERE, template, known | context, status=status)


def _refuse(form: forms.Form, refusal: ApiError) -> None:
    if refusal.code == "phone_number_taken":
        form.add_error("phone_number", refusal.message)
    else:
        refuse(form, refusal, _NAMES)


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


urlpatterns = [
    path("dashboard/numbers", numbers, name="numbers"),
    path("dashboard/numbers/new", new_number, name="number-new"),
    path("dashboard/numbers/<str:id>", number, name="number"),
    path("dashboard/numbers/<str:id>/remove", remove_number, name="number-remove"),
]
