"""The room of the numbers: which there are, and who is asked about their calls."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import require_active
from core.engine_urls import engine_voice_url
from core.errors import ApiError
from dashboard.access import PageRequest, for_customer, reason_not_active
from dashboard.call_words import outcome_label, outcome_tone
from dashboard.forms import LineField, refuse
from dashboard.rendering import room
from telephony.models import PhoneNumber
from telephony.numbers import (
    RESTS_FOR,
    numbers_with_last_calls,
    phone_number_register,
    phone_number_remove,
    phone_number_update,
)
from telephony.twilio_rest import TwilioCredentials

HERE = "/dashboard/numbers"

_RESTING = "phone_number_resting"
_ABOUT_THE_NUMBER = ("phone_number_taken", _RESTING)


class UrlsForm(forms.Form):
    """Who is asked about a number's calls. Which URLs can be used, the service says."""

    on_call_start_url = LineField(
        label="onCallStart URL",
        help_text="Your backend is asked here how a call is handled.",
        widget=forms.URLInput({"placeholder": "https://your-backend.com/calls/start"}),
    )
    on_call_end_url = LineField(
        label="onCallEnd URL",
        help_text="It is told here how the call went, with the transcript and what it cost.",
        widget=forms.URLInput({"placeholder": "https://your-backend.com/calls/end"}),
    )
    on_error_url = LineField(
        label="onError URL",
        required=False,
        help_text="It is told here what went wrong with a call.",
        widget=forms.URLInput({"placeholder": "https://your-backend.com/calls/error"}),
    )


class RegistrationForm(UrlsForm):
    phone_number = LineField(
        label="Phone number",
        help_text="A US number of yours at Twilio, like +15551234567.",
        widget=forms.TextInput({"inputmode": "tel", "autocomplete": "off"}),
    )

    field_order = ["phone_number"]

    def registration(self) -> dict[str, Any]:
        """Return the arguments of ``phone_number_register``."""
        return self.cleaned_data


class ProvenRegistrationForm(RegistrationForm):
    """For a number that another account had until recently."""

    twilio_account_sid = forms.CharField(
        label="Account SID of your Twilio account",
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
    )
    twilio_auth_token = forms.CharField(
        label="Auth token of that account",
        help_text="We ask Twilio with it whether the number is yours, and do not keep it.",
        widget=forms.PasswordInput({"autocomplete": "off"}),
    )

    # Right below what is said of the number.
    field_order = ["phone_number", "twilio_account_sid", "twilio_auth_token"]

    def registration(self) -> dict[str, Any]:
        fields = dict(self.cleaned_data)
        proof = TwilioCredentials(fields.pop("twilio_account_sid"), fields.pop("twilio_auth_token"))
        return {**fields, "proof": proof}


class TwilioAccountForm(forms.Form):
    twilio_account_sid = forms.CharField(
        label="Account SID",
        required=False,
        help_text="The number takes calls from this Twilio account and from no other. If it is "
        "empty, the next verified call sets it.",
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
    )


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


@sensitive_post_parameters()
@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables()
def new_number(request: PageRequest) -> HttpResponse:
    """Register a number. One that is the account's already gets the new URLs, as with the API."""
    is_proven = "twilio_auth_token" in request.POST
    form_class = ProvenRegistrationForm if is_proven else RegistrationForm
    form = form_class(request.POST or None)
    if request.method == "POST":
        require_active(request.user)
    if form.is_valid():
        try:
            number, is_new = phone_number_register(account=request.user, **form.registration())
        except (ApiError, ValidationError) as refusal:
            if getattr(refusal, "code", "") == _RESTING and not is_proven:
                form = _asking_for_proof(form)
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
        form = _changes_form(found)
    if form.is_valid():
        try:
            phone_number_update(account=request.user, id=found.id, **form.cleaned_data)
        except ValidationError as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, f"{found} is saved.")
            return redirect(HERE)
    return _number_page(request, found, form)


def _changes_form(number: PhoneNumber) -> ChangesForm:
    return ChangesForm(initial={name: getattr(number, name) for name in ChangesForm.base_fields})


def _number_page(
    request: PageRequest,
    number: PhoneNumber,
    form: ChangesForm,
    *,
    account_form: TwilioAccountForm | None = None,
) -> HttpResponse:
    # The one that was refused may be a forger's: it is a button of its own, and no field's text.
    shown = account_form or TwilioAccountForm(
        prefix="twilio", initial={"twilio_account_sid": number.twilio_account_sid}
    )
    status = 400 if form.is_bound or shown.is_bound else 200
    context = {"form": form, "account_form": shown, "number": number, "rests_for": RESTS_FOR}
    return _page(request, "dashboard/number.html", context, status=status)


@for_customer
@require_POST
def remove_number(request: PageRequest, id: str) -> HttpResponse:
    require_active(request.user)
    found = PhoneNumber.objects.access(request.user, id)
    phone_number_remove(account=request.user, id=found.id)
    messages.success(request, f"{found} is removed. Its calls stay.")
    return redirect(HERE)


@for_customer
@require_POST
def confirm_account(request: PageRequest, id: str) -> HttpResponse:
    """Say which Twilio account the number's calls come from."""
    require_active(request.user)
    found = PhoneNumber.objects.access(request.user, id)
    form = TwilioAccountForm(request.POST, prefix="twilio")
    if form.is_valid():
        sid = form.cleaned_data["twilio_account_sid"]
        try:
            phone_number_update(account=request.user, id=found.id, twilio_account_sid=sid)
        except ValidationError as refusal:
            refuse(form, refusal)
        else:
            says = f"takes calls from {sid} alone" if sid else "is bound by its next verified call"
            messages.success(request, f"{found} {says}.")
            return redirect("number", id=found.id)
    return _number_page(request, found, _changes_form(found), account_form=form)


def _asking_for_proof(form: RegistrationForm) -> RegistrationForm:
    """Return the form with what was typed in, and with fields for the proof."""
    asking = ProvenRegistrationForm(form.data)
    asking.full_clean()
    for name in ("twilio_account_sid", "twilio_auth_token"):
        del asking.errors[name]
    return asking


def _form(request: PageRequest, template: str, form: forms.Form, **context: Any) -> HttpResponse:
    status = 400 if form.is_bound else 200
    return _page(request, template, {"form": form, **context}, status=status)


def _page(
    request: PageRequest, template: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    known = {
        "voice_url": engine_voice_url(),
        "not_active": reason_not_active(request.user),
    }
    return room(request, HERE, template, known | context, status=status)


def _refuse(form: forms.Form, refusal: ApiError | ValidationError) -> None:
    if isinstance(refusal, ApiError) and refusal.code in _ABOUT_THE_NUMBER:
        form.add_error("phone_number", refusal.message)
    else:
        refuse(form, refusal)


urlpatterns = [
    path("dashboard/numbers", numbers, name="numbers"),
    path("dashboard/numbers/new", new_number, name="number-new"),
    path("dashboard/numbers/<str:id>", number, name="number"),
    path("dashboard/numbers/<str:id>/twilio-account", confirm_account, name="number-account"),
    path("dashboard/numbers/<str:id>/remove", remove_number, name="number-remove"),
]
