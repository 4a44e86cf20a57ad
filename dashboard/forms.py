"""What the pages' forms share."""

from __future__ import annotations

from collections.abc import Mapping

from django import forms
from django.core.exceptions import ValidationError

from config.errors import ApiError


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
