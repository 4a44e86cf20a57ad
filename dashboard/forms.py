"""What the pages' forms share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from rest_framework.serializers import Serializer

from core import days
from core.errors import ApiError, invalid
from core.texts import validate_line


class LineField(forms.CharField):
    """A text of one line: without control characters, tabs and line breaks."""

    default_validators = [validate_line]


class DayField(forms.DateField):
    """A day that one may ask about."""

    def __init__(self, *, label: str) -> None:
        attributes = {"type": "date", "min": str(days.FIRST), "max": str(days.LAST)}
        widget = forms.DateInput(attributes, "%Y-%m-%d")
        super().__init__(label=label, required=False, widget=widget)

    def validate(self, value: date | None) -> None:
        super().validate(value)
        if value is not None and not days.FIRST <= value <= days.LAST:
            raise ValidationError(days.RANGE, code="range")


def refuse(
    form: forms.Form, refusal: ApiError | ValidationError, names: Mapping[str, str] | None = None
) -> None:
    """Show a service's refusal in the form, at the field that it names.

    :param names: the form's field for a name of the API's, where they differ.
    """
    if isinstance(refusal, ApiError):
        fields: Mapping[str, list[str]] = refusal.fields or {"": [refusal.message]}
    else:
        fields = refusal.message_dict if hasattr(refusal, "error_dict") else {"": refusal.messages}
    for name, messages in fields.items():
        field = (names or {}).get(name, name)
        for message in messages:
            form.add_error(field if field in form.fields else None, message)


def checked(serializer_class: type[Serializer[Any]], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the API would make of a body of that shape; raise its 400, with ``fields``.

    For flat bodies: the pages take what the API takes.
    """
    serializer = serializer_class(data=body)
    if not serializer.is_valid():
        raise invalid(
            {name: [str(each) for each in errors] for name, errors in serializer.errors.items()}
        )
    return dict(serializer.validated_data)
