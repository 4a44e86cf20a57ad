"""The steps to an account's first real call, until one was connected or they are hidden."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_POST

from accounts.models import Account
from accounts.services import checklist_hide
from dashboard.access import PageRequest, for_customer
from telephony.call_sids import TEST_PREFIX
from telephony.models import Call, CallQuerySet


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    title: str
    done: bool
    is_next: bool = False


def checklist_of(account: Account) -> list[Step]:
    """Return the steps in order; none if they are hidden or done.

    The first one that is not done is the next one. The first inbound call that is not a test call
    shows that Twilio points to Switchhook.
    """
    real = Call.objects.of(account).exclude(call_sid__startswith=TEST_PREFIX)
    if account.hides_checklist or _has_any(real.that_came_out("completed")):
        return []
    done = {
        "pay": account.status == Account.Status.ACTIVE,
        "key": account.api_keys.active().exists(),
        "number": account.phone_numbers.exists(),
        "twilio": _has_any(real.filter(direction=Call.Direction.INBOUND)),
        "call": False,  # the list is gone by then
    }
    upcoming = next(name for name, is_done in done.items() if not is_done)
    return [
        Step(name, _TITLES[name], is_done, is_next=name == upcoming)
        for name, is_done in done.items()
    ]


def _has_any(calls: CallQuerySet) -> bool:
    """Return True if there is a call. All that is skipped are test calls, which people make.

    Ordered as the index is: otherwise PostgreSQL scans the calls of all accounts.
    """
    return calls.order_by("-created_at", "-id").values_list("id", flat=True).first() is not None


_TITLES = {
    "pay": "Pay",
    "key": "Create an API key",
    "number": "Register a number",
    "twilio": "Point Twilio here",
    "call": "Have your agent answer a call",
}


@for_customer
@require_POST
def show_checklist(request: PageRequest) -> HttpResponse:
    """Hide the steps, or show them again."""
    hides = request.POST.get("show") != "yes"
    checklist_hide(account=request.user, hides=hides)
    if hides:
        messages.success(request, "Checklist hidden. To see it again, go to Settings.")
    return redirect("overview")


urlpatterns = [path("dashboard/checklist", show_checklist, name="checklist")]
