"""Sentences with ``code`` and **bold** on pages: ``{% load inline_markdown %}``."""

from __future__ import annotations

import re

from django import template
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_CODE = re.compile("`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


@register.filter
def inline_markdown(text: str) -> SafeString:
    """Return a sentence of a guide as HTML; a link, whose address is the guide's, as its text."""
    escaped = str(conditional_escape(_LINK.sub(r"\1", text)))
    marked = _BOLD.sub(r"<b>\1</b>", _CODE.sub(r"<code>\1</code>", escaped))
    return mark_safe(marked)  # noqa: S308 (escaped above) # nosec B308 B703 # escaped above
