"""Fields and helpers that forms share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from core import days
from core.errors import ApiError
from core.texts import validate_line
from telephony.callback_urls import callback_url_problem
from telephony.numbering import normalize_number

# The fields that errors are about whose code says so.
_FIELDS_OF_CODES = {"email_taken": "email"}
_CAPITAL = re.compile(r"[A-Z]")


class LineField(forms.CharField):
    """A single line of text, without control characters, tabs and line breaks."""

    default_validators = [validate_line]


class FilterForm(forms.Form):
    """The filters of a list, as given in the URL."""

    def query(self, **more: str) -> str:
        """Return the filters that are set, plus ``more``, as a query string: ``?…`` or ``""``."""
        query = QueryDict(mutable=True)
        for name in self.fields:
            if value := self.cleaned_data.get(name) if self.is_valid() else self.data.get(name):
                query[name] = str(value)
        query.update({name: value for name, value in more.items() if value})
        return f"?{query.urlencode()}" if query else ""


class PhoneNumberField(LineField):
    """A phone number as people write it: see ``normalize_number``, which returns E.164."""

    # Longer than any notation, and short enough to repeat in an error.
    LONGEST = 64

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", self.LONGEST)
        options.setdefault("widget", forms.TextInput({"inputmode": "tel", "autocomplete": "off"}))
        super().__init__(**options)

    def to_python(self, value: Any) -> str:
        return normalize_number(super().to_python(value) or "")


class DayField(forms.DateField):
    """A day within the range that calls can be filtered by, in the active time zone.

    The page names the zone in an element with the id ``zone``.
    """

    def __init__(self, *, label: str) -> None:
        attributes = {
            "type": "date",
            "min": str(days.FIRST),
            "max": str(days.LAST),
            "aria-describedby": "zone",
        }
        widget = forms.DateInput(attributes, "%Y-%m-%d")
        super().__init__(label=label, required=False, widget=widget)

    def validate(self, value: date | None) -> None:
        super().validate(value)
        if value is not None and not days.FIRST <= value <= days.LAST:
            raise ValidationError(days.RANGE, code="range")


class CallbackUrlField(LineField):
    """A URL of the customer's backend, by the rules of the service."""

    def __init__(self, *, label: str, help_text: str, example: str, required: bool = True) -> None:
        widget = forms.URLInput({"placeholder": f"https://your-backend.com/calls/{example}"})
        super().__init__(label=label, help_text=help_text, required=required, widget=widget)

    def validate(self, value: str) -> None:
        super().validate(value)
        if value and (problem := callback_url_problem(value)):
            raise ValidationError(problem)


def refuse(form: forms.Form, refusal: ApiError | ValidationError) -> None:
    """Show a service's error in the form, at the field that it names.

    A form's fields have the names of the service's arguments; an ``ApiError`` may have the API's.
    """
    for name, messages in _fields_of(refusal).items():
        field = _CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", name)
        for message in messages:
            form.add_error(field if field in form.fields else None, message)


def problem_in(refusal: ApiError | ValidationError) -> str:
    """Return all that a service's error says, as one text."""
    said = [message for messages in _fields_of(refusal).values() for message in messages]
    return " ".join(dict.fromkeys(said))


def with_more(refusal: ApiError | ValidationError, check: Callable[[], object]) -> ValidationError:
    """Return a service's error together with what another check finds, so that all is shown."""
    fields = dict(_fields_of(refusal))
    try:
        check()
    except (ApiError, ValidationError) as more:
        fields |= _fields_of(more)
    return ValidationError(fields)


def _fields_of(refusal: ApiError | ValidationError) -> Mapping[str, list[str]]:
    if isinstance(refusal, ApiError):
        about = _FIELDS_OF_CODES.get(refusal.code, "")
        return refusal.fields or {about: [refusal.message]}
    return refusal.message_dict if hasattr(refusal, "error_dict") else {"": refusal.messages}
