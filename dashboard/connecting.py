"""The page that connects a Twilio account, and a number's check at Twilio.

The credentials are typed once: htmx replaces what is below them, and they stay in the browser's
fields. They are in no page and in no session.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import Account
from accounts.permissions import require_active
from core.engine_urls import engine_voice_url
from core.errors import ApiError
from dashboard.access import PageRequest, for_customer, reason_not_active
from dashboard.forms import problem_in
from dashboard.numbers import CredentialsForm, UrlsForm, number_page
from dashboard.rendering import dashboard_page
from telephony.connecting import Consents, OfferedNumber, numbers_at_twilio, phone_number_connect
from telephony.models import PhoneNumber
from telephony.numbering import number_digits
from telephony.twilio_rest import CURSOR, TwilioCredentials

# The most numbers that are connected at once.
MOST_AT_ONCE = 20
# The seconds after which no other number is begun, nor the list. Each number takes two requests to
# Twilio, of at most TIMEOUT_SECONDS (10 s): so a request holds a thread for at most 30 s.
BEGUN_WITHIN_S = 10.0

_LONGEST_NUMBER = 16  # in E.164, with its +
_UNFINISHED = "Not connected: Twilio took too long. Try again."
_NOT_LISTED = "Twilio took too long to list the numbers again. To see them, choose Show numbers."


class AccountForm(CredentialsForm):
    find = forms.CharField(
        label="Only numbers with",
        max_length=20,
        required=False,
        help_text="Some digits, if you have many numbers.",
        widget=forms.TextInput({"inputmode": "tel", "autocomplete": "off"}),
    )

    def clean_find(self) -> str:
        return number_digits(self.cleaned_data["find"])


class ConnectionForm(UrlsForm):
    """What applies to all numbers that are chosen."""

    move_from_other_account = forms.BooleanField(required=False)
    replace_routing = forms.BooleanField(required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for field in self.fields.values():
            field.required = False

    def consents(self) -> Consents:
        known = self.cleaned_data
        return Consents(known["move_from_other_account"], known["replace_routing"])

    def url_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in UrlsForm.base_fields]

    def urls(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in UrlsForm.base_fields}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a number: connected if nothing is wrong with it."""

    phone_number: str
    problem: str = ""


@sensitive_post_parameters()
@for_customer
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables()
def connect(request: PageRequest) -> HttpResponse:
    """List the numbers of a Twilio account, and connect those that are chosen."""
    if request.method != "POST":
        return _page(request, AccountForm(), {})
    require_active(request.user)
    account_form, form = AccountForm(request.POST), ConnectionForm(request.POST)
    context: dict[str, Any] = {"form": form}
    begin_until = monotonic() + BEGUN_WITHIN_S
    if request.POST.get("step") == "connect":
        results = _connect_chosen(request, account_form, form, begin_until)
        if results and not any(result.problem for result in results):
            return _connected(request, results)
        context |= {"results": results, "chosen": set(request.POST.getlist("number"))}
        if monotonic() >= begin_until:
            return _page(request, account_form, context | {"problem": _NOT_LISTED})
    after = request.POST.get("after", "")
    context |= _offered(request.user, account_form, after if CURSOR.fullmatch(after) else "")
    return _page(request, account_form, context)


@sensitive_variables()
def _connect_chosen(
    request: PageRequest, account_form: AccountForm, form: ConnectionForm, begin_until: float
) -> list[Result]:
    """Connect each chosen number alone: one that fails keeps no other back.

    :param begin_until: when no other number is begun (``monotonic()``).
    """
    chosen = list(dict.fromkeys(request.POST.getlist("number")))
    if not (account_form.is_valid() and form.is_valid()):
        return []
    if not 0 < len(chosen) <= MOST_AT_ONCE:
        form.add_error(None, f"Choose 1 to {MOST_AT_ONCE} numbers.")
        return []
    if any(len(number) > _LONGEST_NUMBER for number in chosen):
        form.add_error(None, "Choose numbers from the list.")  # and repeat none of these
        return []
    results = []
    for number in chosen:
        problem = _UNFINISHED
        if monotonic() < begin_until:
            problem = _connect_one(request, number, account_form, form)
        results.append(Result(number, problem))
    return results


@sensitive_variables()
def _connect_one(
    request: PageRequest, number: str, account_form: AccountForm, form: ConnectionForm
) -> str:
    """Return why Twilio or the service refuses; "" if the number is connected."""
    try:
        phone_number_connect(
            account=request.user,
            phone_number=number,
            credentials=account_form.credentials(),
            consents=form.consents(),
            **form.urls(),
        )
    except (ApiError, ValidationError) as refusal:
        return problem_in(refusal)
    return ""


@sensitive_variables()
def _offered(account: Account, form: AccountForm, after: str) -> dict[str, Any]:
    """Return the numbers to choose from, or why there are none."""
    if not form.is_valid():
        return {}
    try:
        offer = numbers_at_twilio(
            account=account,
            credentials=form.credentials(),
            after=after,
            digits=form.cleaned_data["find"],
        )
    except (ApiError, ValidationError) as refusal:
        return {"problem": problem_in(refusal)}
    return {
        "offer": offer,
        "after": after,
        "some_taken": any(number.is_taken for number in offer.numbers),
        "some_routed": any(number.at_twilio.ignores_webhook for number in offer.numbers),
    }


def _connected(request: PageRequest, results: list[Result]) -> HttpResponse:
    names = ", ".join(result.phone_number for result in results)
    messages.success(request, f"Connected {names}. Call a number to try it.")
    if request.htmx:
        return HttpResponse(headers={"HX-Redirect": reverse("numbers")})
    return redirect("numbers")


@sensitive_variables()
def _page(request: PageRequest, form: AccountForm, context: dict[str, Any]) -> HttpResponse:
    """Return the page, or for htmx what is below the credentials. htmx shows no other status."""
    known = {
        "account_form": form,
        "voice_url": engine_voice_url(),
        "not_active": reason_not_active(request.user),
        **context,
    }
    if request.htmx:
        return render(request, "dashboard/connect_numbers.html", known)
    is_wrong = form.is_bound and "offer" not in context
    status = 400 if is_wrong or context.get("results") else 200
    return dashboard_page(request, "numbers", "dashboard/connect.html", known, status=status)


@sensitive_post_parameters()
@for_customer
@require_POST
@sensitive_variables()
def number_check(request: PageRequest, id: str) -> HttpResponse:
    """Say where Twilio sends a number's calls, and send them here if that is what is asked."""
    require_active(request.user)
    number = PhoneNumber.objects.access(request.user, id)
    credentials, form = CredentialsForm(request.POST, prefix="check"), ConnectionForm(request.POST)
    context: dict[str, Any] = {"number": number, "check_form": credentials}
    if credentials.is_valid() and form.is_valid():
        known = credentials.credentials()
        try:
            if request.POST.get("step") == "point":
                phone_number_connect(
                    account=request.user,
                    phone_number=number.phone_number,
                    credentials=known,
                    consents=form.consents(),
                )
            context["checked"] = _at_twilio(request.user, number, known)
        except (ApiError, ValidationError) as refusal:
            context["problem"] = problem_in(refusal)
    if request.htmx:
        return render(request, "dashboard/number_at_twilio.html", context)
    return number_page(request, number, context=context)


@sensitive_variables()
def _at_twilio(
    account: Account, number: PhoneNumber, credentials: TwilioCredentials
) -> OfferedNumber:
    """Return the number as Twilio has it; raise ``ValidationError`` if this account has not."""
    digits = number.phone_number
    offer = numbers_at_twilio(account=account, credentials=credentials, digits=digits)
    for each in offer.numbers:
        if each.at_twilio.phone_number == digits:
            return each
    raise ValidationError(f"{number} does not belong to this Twilio account.")


urlpatterns = [
    path("dashboard/numbers/connect", connect, name="numbers-connect"),
    path("dashboard/numbers/<str:id>/twilio", number_check, name="number-check"),
]
