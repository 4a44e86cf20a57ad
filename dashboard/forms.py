"""Fields and helpers that forms share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from core import days
from core.errors import ApiError
from core.texts import validate_line
from telephony.numbering import number_typed

_CAPITAL = re.compile(r"[A-Z]")


class LineField(forms.CharField):
    """A single line of text, without control characters, tabs and line breaks."""

    default_validators = [validate_line]


class PhoneNumberField(LineField):
    """A phone number as people write it, returned in E.164 if it is one; see ``number_typed``."""

    # Longer than any notation, and short enough to repeat in an error.
    LONGEST = 64

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", self.LONGEST)
        options.setdefault("widget", forms.TextInput({"inputmode": "tel", "autocomplete": "off"}))
        super().__init__(**options)

    def to_python(self, value: Any) -> str:
        return number_typed(super().to_python(value) or "")


class DayField(forms.DateField):
    """A day within the range that calls can be filtered by."""

    def __init__(self, *, label: str) -> None:
        attributes = {"type": "date", "min": str(days.FIRST), "max": str(days.LAST)}
        widget = forms.DateInput(attributes, "%Y-%m-%d")
        super().__init__(label=label, required=False, widget=widget)

    def validate(self, value: date | None) -> None:
        super().validate(value)
        if value is not None and not days.FIRST <= value <= days.LAST:
            raise ValidationError(days.RANGE, code="range")


def refuse(form: forms.Form, refusal: ApiError | ValidationError) -> None:
    """Show a service's error in the form, at the field that it names.

    A form's fields have the names of the service's arguments; an ``ApiError`` may have the API's.
    """
    if isinstance(refusal, ApiError):
        fields: Mapping[str, list[str]] = refusal.fields or {"": [refusal.message]}
    else:
        fields = refusal.message_dict if hasattr(refusal, "error_dict") else {"": refusal.messages}
    for name, messages in fields.items():
        field = _CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", name)
        for message in messages:
            form.add_error(field if field in form.fields else None, message)
