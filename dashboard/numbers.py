"""The pages of phone numbers and their callback URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.permissions import require_active
from core.engine_urls import engine_voice_url
from core.errors import ApiError
from core.keyset import Cursor, page_of
from dashboard.access import PageRequest, for_customer, reason_not_active
from dashboard.call_words import code_tone, outcome_label, outcome_tone
from dashboard.forms import CallbackUrlField, LineField, PhoneNumberField, refuse
from dashboard.rendering import dashboard_page
from telephony.engine.plan import LONGEST_AUTH_TOKEN
from telephony.models import LONGEST_NUMBER_NAME, PhoneNumber
from telephony.numbering import registration_problem, us_number_problem
from telephony.numbers import (
    RESTS_FOR,
    NumberState,
    number_states,
    phone_number_register,
    phone_number_remove,
    phone_number_update,
)
from telephony.retirements import in_use
from telephony.twilio_rest import TwilioCredentials

PAGE_SIZE = 50
_RESTING = "phone_number_resting"
_ABOUT_THE_NUMBER = ("phone_number_taken", _RESTING)


class SearchForm(forms.Form):
    q = LineField(
        label="Search",
        required=False,
        max_length=LONGEST_NUMBER_NAME,
        widget=forms.TextInput({"type": "search", "placeholder": "Number or name"}),
    )


class NameForm(forms.Form):
    name = LineField(
        label="Name",
        required=False,
        max_length=LONGEST_NUMBER_NAME,
        help_text="To tell your numbers apart. Callers can't see it.",
        widget=forms.TextInput({"autocomplete": "off"}),
    )


class UrlsForm(forms.Form):
    """The callback URLs of a number."""

    on_call_start_url = CallbackUrlField(
        label="onCallStart URL",
        help_text="We ask your backend here how to handle each call.",
        example="start",
    )
    on_call_end_url = CallbackUrlField(
        label="onCallEnd URL",
        help_text="We send the transcript and the cost here when a call ends.",
        example="end",
    )
    on_error_url = CallbackUrlField(
        label="onError URL",
        required=False,
        help_text="We report errors here.",
        example="error",
    )


class RegistrationForm(NameForm, UrlsForm):
    phone_number = PhoneNumberField(
        label="Phone number",
        help_text="One of your US Twilio numbers, such as (555) 123-4567.",
    )

    field_order = ["phone_number", "name"]

    def clean_phone_number(self) -> str:
        number = str(self.cleaned_data["phone_number"])
        problem = us_number_problem(number)
        if not problem and (unusable := registration_problem(number)):
            problem = unusable.message
        if problem:
            raise ValidationError(problem)
        return number

    def registration(self) -> dict[str, Any]:
        """Return the arguments of ``phone_number_register``."""
        return self.cleaned_data


class ProvenRegistrationForm(RegistrationForm):
    """The form for a number that another account had until recently."""

    twilio_account_sid = forms.CharField(
        label="Twilio account SID",
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
    )
    twilio_auth_token = forms.CharField(
        label="Twilio auth token",
        help_text="We use it once to verify that you own the number, and don't store it.",
        widget=forms.PasswordInput({"autocomplete": "off"}),
    )

    # Right below the number's error.
    field_order = ["phone_number", "twilio_account_sid", "twilio_auth_token", "name"]

    def registration(self) -> dict[str, Any]:
        fields = dict(self.cleaned_data)
        proof = TwilioCredentials(fields.pop("twilio_account_sid"), fields.pop("twilio_auth_token"))
        return {**fields, "proof": proof}


class CredentialsForm(forms.Form):
    """The credentials of a Twilio account, which no page repeats."""

    twilio_account_sid = forms.CharField(
        label="Account SID",
        max_length=34,
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
    )
    twilio_auth_token = forms.CharField(
        label="Auth token",
        max_length=LONGEST_AUTH_TOKEN,
        help_text="We use it for this and don't store it.",
        widget=forms.PasswordInput({"autocomplete": "off"}),
    )

    @sensitive_variables()
    def credentials(self) -> TwilioCredentials:
        """Return what was typed into a valid form."""
        known = self.cleaned_data
        return TwilioCredentials(known["twilio_account_sid"], known["twilio_auth_token"])


class TwilioAccountForm(forms.Form):
    twilio_account_sid = forms.CharField(
        label="Account SID",
        required=False,
        help_text="The number only accepts calls from this Twilio account. If you leave this "
        "empty, the next verified call sets it.",
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
    )


class ChangesForm(NameForm, UrlsForm):
    is_active = forms.BooleanField(
        label="Active",
        required=False,
        help_text="Turn this off to reject calls to this number and block calls from it.",
    )

    field_order = ["name"]


@for_customer
@require_safe
def numbers(request: PageRequest) -> HttpResponse:
    """List the numbers that match, newest first."""
    search = SearchForm(request.GET)
    text = search.cleaned_data["q"] if search.is_valid() else ""
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    own = PhoneNumber.objects.of(request.user)
    page = page_of(
        own.matching(text).with_last_calls() if text else own.with_last_calls(),
        size=PAGE_SIZE,
        before=Cursor.read(before),
        after=Cursor.read(after),
    )

    def place(**cursor: str) -> str:
        return f"{reverse('numbers')}?{urlencode({'q': text, **cursor} if text else cursor)}"

    context = {
        "search": search,
        "numbers": [_row(state) for state in number_states(request.user, page.rows)],
        "is_whole": not (text or before or after),
        "newer": place(before=page.before) if page.before else "",
        "older": place(after=page.after) if page.after else "",
    }
    return _page(request, "dashboard/numbers.html", context)


def _row(state: NumberState) -> dict[str, Any]:
    call, failure = state.last_call, state.last_failure
    return {
        "number": state.number,
        "call": call,
        "label": outcome_label(call) if call else "",
        "tone": outcome_tone(call) if call else "",
        "failure": failure,
        "failure_tone": code_tone(failure) if failure else "",
    }


@sensitive_post_parameters()
@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables()
def new_number(request: PageRequest) -> HttpResponse:
    """Register a number. If the account already has it, it gets the new URLs, as in the API."""
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
            text = f"Registered {number}." if is_new else f"Updated the URLs of {number}."
            messages.success(request, text)
            return redirect("numbers")
    return _form(request, "dashboard/number_new.html", form)


@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
def number(request: PageRequest, id: str) -> HttpResponse:
    """Show and change a number's URLs."""
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
            messages.success(request, f"Saved {found}.")
            return redirect("numbers")
    return number_page(request, found, form)


def _changes_form(number: PhoneNumber) -> ChangesForm:
    return ChangesForm(initial={name: getattr(number, name) for name in ChangesForm.base_fields})


def number_page(
    request: PageRequest,
    number: PhoneNumber,
    form: ChangesForm | None = None,
    *,
    account_form: TwilioAccountForm | None = None,
    context: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """Return a number's page.

    :param context: of a check at Twilio.
    """
    form = form or _changes_form(number)
    # The rejected account may be forged, so it gets a button of its own and is never filled in.
    shown = account_form or TwilioAccountForm(
        prefix="twilio", initial={"twilio_account_sid": number.twilio_account_sid}
    )
    known_sid = {"twilio_account_sid": number.twilio_account_sid}
    check_form = CredentialsForm(prefix="check", initial=known_sid)
    status = 400 if form.is_bound or shown.is_bound or context else 200
    (state,) = number_states(
        request.user, PhoneNumber.objects.of(request.user).with_last_calls().filter(pk=number.pk)
    )
    known = {
        "form": form,
        "account_form": shown,
        "number": number,
        "state": _row(state),
        "retirements": in_use(request.user, number),
        "rests_for": RESTS_FOR,
        "check_form": check_form,
        **(context or {}),
    }
    return _page(request, "dashboard/number.html", known, status=status)


@for_customer
@require_POST
def remove_number(request: PageRequest, id: str) -> HttpResponse:
    require_active(request.user)
    found = PhoneNumber.objects.access(request.user, id)
    phone_number_remove(account=request.user, id=found.id)
    messages.success(request, f"Removed {found}. Its past calls are kept.")
    return redirect("numbers")


@for_customer
@require_POST
def confirm_account(request: PageRequest, id: str) -> HttpResponse:
    """Set the Twilio account that the number's calls come from."""
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
            says = (
                f"only accepts calls from {sid}" if sid else "gets its account from the next call"
            )
            messages.success(request, f"{found} {says}.")
            return redirect("number", id=found.id)
    return number_page(request, found, account_form=form)


def _asking_for_proof(form: RegistrationForm) -> RegistrationForm:
    """Return the form as it was filled in, with the fields that prove ownership."""
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
    return dashboard_page(request, "numbers", template, known | context, status=status)


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
