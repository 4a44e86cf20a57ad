"""The figures on the admin's start page."""

from __future__ import annotations

from typing import Any

from django import template

from operations.start_page import failures, needing_attention, todays_figures

register = template.Library()


@register.inclusion_tag("operations/start_page.html")
def start_page() -> dict[str, Any]:
    failed = failures()
    return {
        "problems": needing_attention(failed),
        "failures": failed,
        "today": todays_figures(),
    }
