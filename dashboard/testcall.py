"""``/dashboard/test-call``: call an agent from the browser, and check its onCallStart callback."""

from __future__ import annotations

from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import require_active
from accounts.throttling import account_attempt
from core.errors import ApiError
from core.pages import PERMISSIONS_POLICY_WITH_MICROPHONE, page
from dashboard.access import PageRequest, for_customer
from dashboard.call_notices import notices_of
from dashboard.call_words import length, line_of, outcome_label, outcome_tone
from dashboard.forms import PhoneNumberField, refuse
from dashboard.rendering import dashboard_page
from dashboard.responses import check_shown, request_shown
from telephony.call_sids import TEST_PREFIX
from telephony.callbacks.check import Check, call_start_check
from telephony.callbacks.on_call_start import TIMEOUT_SECONDS
from telephony.engine.codes import EndedReason
from telephony.engine.plan import is_phone_number
from telephony.models import Call, PhoneNumber
from telephony.services import call_end
from telephony.voice.testcalls import call_test_start

# A number reserved for fiction, which nobody has.
FICTIONAL = "+12025550123"
MOST_NUMBERS = 500
# Test calls are short, so the page shows all of their events.
MOST_EVENTS = 500

WHY = {
    "number_inactive": "This number is inactive. Activate it under Numbers to receive calls.",
    "account_inactive": "Your account is not active. Go to Billing to activate it.",
    "account_suspended": "Your account is suspended, so all calls are rejected.",
    "too_many_calls": (
        "You have reached your limit of concurrent calls. Callers hear a busy signal."
    ),
    "spending_limit_reached": "You have reached your spending limit. Raise it under Billing.",
    "hung_up": "The call was hung up before it was connected.",
}


class CallForm(forms.Form):
    number = forms.ChoiceField(label="Number to call")
    caller = PhoneNumberField(
        label="Caller",
        required=False,
        help_text=f"The number your backend sees. Defaults to {FICTIONAL}, which nobody has.",
        widget=forms.TextInput({"inputmode": "tel", "placeholder": FICTIONAL}),
    )

    def __init__(self, request: PageRequest, *, prefix: str) -> None:
        super().__init__(request.POST or None, prefix=prefix)
        self.numbers = {
            each.id: each
            for each in PhoneNumber.objects.of(request.user).order_by("created_at")[:MOST_NUMBERS]
        }
        self.fields["number"].choices = [  # type: ignore[attr-defined]
            (each.id, each.phone_number if each.is_active else f"{each.phone_number} (inactive)")
            for each in self.numbers.values()
        ]

    def clean_caller(self) -> str:
        caller = str(self.cleaned_data["caller"] or FICTIONAL)
        if not is_phone_number(caller):
            raise forms.ValidationError(f"Use a phone number, such as {FICTIONAL}.")
        return caller


def _form(request: PageRequest, *, prefix: str) -> CallForm:
    """Return the submitted form; raise 404 for a number of another account."""
    form = CallForm(request, prefix=prefix)
    number_id = request.POST.get(f"{prefix}-number", "")
    if number_id and number_id not in form.numbers:
        number = PhoneNumber.objects.access(request.user, number_id)
        form.numbers[number.id] = number
        form.fields["number"].choices.append((number.id, number.phone_number))  # type: ignore[attr-defined]
    return form


@for_customer
@require_safe
def test_call(request: PageRequest) -> HttpResponse:
    return _test_call_page(request)


def _test_call_page(
    request: PageRequest,
    *,
    check: Check | None = None,
    check_form: CallForm | None = None,
    status: int = 200,
) -> HttpResponse:
    media = urlsplit(settings.MEDIA_STREAM_URL)
    call_form = CallForm(request, prefix="call")
    call_form.is_bound = False
    context = {
        "form": call_form,
        "check_form": check_form or CallForm(request, prefix="check"),
        "check": check,
        "answer": check_shown(check) if check else None,
        "timeout": TIMEOUT_SECONDS,
        "keypad": "123456789*0#",
        "has_numbers": bool(call_form.numbers),
    }
    origin = f"{media.scheme}://{media.netloc}"
    response = dashboard_page(
        request, "test-call", "dashboard/test_call.html", context, status=status, connect_to=origin
    )
    response["Permissions-Policy"] = PERMISSIONS_POLICY_WITH_MICROPHONE
    return response


@for_customer
@require_POST
@sensitive_variables()
def start(request: PageRequest) -> HttpResponse:
    """Start a test call, and return a part of the page for its script to insert."""
    form = _form(request, prefix="call")
    if not form.is_valid():
        return page(request, "dashboard/test_call_refused.html", {"form": form}, status=400)
    try:
        account_attempt(request.user, what="test calls")
    except ApiError as refusal:
        refuse(form, refusal)
        return page(
            request, "dashboard/test_call_refused.html", {"form": form}, status=refusal.status_code
        )
    number = form.numbers[form.cleaned_data["number"]]
    started = call_test_start(number=number, caller=form.cleaned_data["caller"])
    context = {
        "started": started,
        "kind": type(started).__name__,
        "why": WHY.get(getattr(started, "why", ""), "The call was rejected."),
        "media_url": settings.MEDIA_STREAM_URL,
    }
    return page(request, "dashboard/test_call_started.html", context)


@for_customer
@require_safe
def live(request: PageRequest, call_id: str) -> HttpResponse:
    """Show the progress of a test call; polled until the call ends."""
    call = _access(request, call_id)
    events = list(call.events.order_by("at", "id")[:MOST_EVENTS])
    seconds = call.duration_seconds
    if call.answered_at and not call.ended_at:
        seconds = int((timezone.now() - call.answered_at).total_seconds())
    context = {
        "call": call,
        "notices": notices_of(call, events, call.callbacks.defer("sealed_body")),
        "responses": [request_shown(each) for each in call.failed_requests.order_by("at", "id")],
        "lines": [line_of(event, call) for event in events],
        "length": length(seconds),
        "label": outcome_label(call),
        "tone": outcome_tone(call),
    }
    return page(request, "dashboard/test_call_live.html", context)


@for_customer
@require_POST
def give_up(request: PageRequest, call_id: str) -> HttpResponse:
    """End a test call whose media socket the browser could not open."""
    call = _access(request, call_id)
    if call.answered_at is None:
        call_end(call_id=call.id, status=Call.Status.CANCELED, reason=EndedReason.CANCELED)
    return HttpResponse(status=204)


def _access(request: PageRequest, call_id: str) -> Call:
    tests = Call.objects.filter(call_sid__startswith=TEST_PREFIX)
    return tests.access(request.user, call_id)


@for_customer
@require_POST
@sensitive_variables()
def check_callback(request: PageRequest) -> HttpResponse:
    """Call a number's onCallStart URL, and show its response field by field."""
    form = _form(request, prefix="check")
    if not form.is_valid():
        return _test_call_page(request, check_form=form, status=400)
    try:
        require_active(request.user)
        account_attempt(request.user, what="callback checks")
    except ApiError as refusal:
        refuse(form, refusal)
        return _test_call_page(request, check_form=form, status=refusal.status_code)
    number = form.numbers[form.cleaned_data["number"]]
    check = call_start_check(number=number, caller=form.cleaned_data["caller"])
    return _test_call_page(request, check=check, check_form=form)


urlpatterns = [
    path("dashboard/test-call", test_call, name="test-call"),
    path("dashboard/test-call/start", start, name="test-call-start"),
    path("dashboard/test-call/check", check_callback, name="test-call-check"),
    path("dashboard/test-call/<str:call_id>/live", live, name="test-call-live"),
    path("dashboard/test-call/<str:call_id>/give-up", give_up, name="test-call-give-up"),
]
