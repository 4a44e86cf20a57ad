"""A form's errors on a page: ``{% load forms %}``."""

from __future__ import annotations

from django import template
from django.forms import BaseForm, BoundField

register = template.Library()


@register.simple_tag
def wrong_fields(form: BaseForm) -> list[BoundField]:
    """Return the visible fields with errors; the first gets the focus when the page opens."""
    wrong = [field for field in form.visible_fields() if field.errors]
    if form.errors:
        for field in form.fields.values():
            field.widget.attrs.pop("autofocus", None)
    if wrong:
        wrong[0].field.widget.attrs["autofocus"] = True
    return wrong
