"""The filters of the list of calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django import forms

from accounts.models import Account
from core.zones import midnight
from dashboard.forms import DayField, FilterForm, LineField
from telephony.call_search import LONGEST_VALUE, Found, calls_found, search
from telephony.engine.codes import CallProblem, ErrorCode
from telephony.models import Call, PhoneNumber
from telephony.numbering import normalize_number

OUTCOMES = {
    "in-progress": "In progress",
    "completed": "Completed",
    "unanswered": "Not answered",
    "rejected": "Rejected",
    "failed": "Failed",
}
DIRECTIONS = {Call.Direction.INBOUND: "Inbound", Call.Direction.OUTBOUND: "Outbound"}
# The codes that are suggested. OpenAI's can be typed.
ERROR_CODES = sorted([*ErrorCode, *CallProblem])
# The most numbers that are suggested. Any other can be typed.
MOST_OFFERED = 200


class CallFilters(FilterForm):
    """The filters of the list and its export, as given in the URL."""

    q = LineField(
        label="Search",
        required=False,
        max_length=LONGEST_VALUE,
        widget=forms.TextInput(
            {
                "type": "search",
                "autocomplete": "off",
                "placeholder": "Caller, CallSid, call ID or metadata",
            }
        ),
    )
    number = LineField(
        label="Your number",
        required=False,
        max_length=64,
        widget=forms.TextInput(
            {"inputmode": "tel", "autocomplete": "off", "list": "own-numbers", "placeholder": "Any"}
        ),
    )
    direction = forms.ChoiceField(choices=[("", "Any"), *DIRECTIONS.items()], required=False)
    outcome = forms.ChoiceField(choices=[("", "Any"), *OUTCOMES.items()], required=False)
    code = LineField(
        label="Error code",
        required=False,
        max_length=80,
        widget=forms.TextInput({"autocomplete": "off", "list": "codes", "placeholder": "Any"}),
    )
    since = DayField(label="From")
    until = DayField(label="To")

    def clean_number(self) -> str:
        return normalize_number(self.cleaned_data["number"])

    def clean(self) -> dict[str, Any]:
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until and since > until:
            self.add_error("until", "Choose an end date on or after the start date.")
        return self.cleaned_data

    def apply(self, account: Account) -> Found:
        """Return the account's calls that match; none if a filter is invalid."""
        if not self.is_valid():
            return Found(Call.objects.none())
        chosen = self.cleaned_data
        since, until = chosen["since"], chosen["until"]
        return calls_found(
            account,
            replace(
                search(chosen["q"]),
                number=chosen["number"],
                direction=chosen["direction"],
                outcome=chosen["outcome"],
                error_code=chosen["code"],
                since=midnight(since) if since else None,
                until=midnight(until + timedelta(days=1)) if until else None,
            ),
        )


def own_numbers(account: Account) -> list[str]:
    """Return the account's numbers, to suggest them."""
    numbers = PhoneNumber.objects.of(account).order_by("-created_at")
    return list(numbers.values_list("phone_number", flat=True)[:MOST_OFFERED])
