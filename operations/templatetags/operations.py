"""The figures on the admin's start page."""

from __future__ import annotations

from typing import Any

from django import template

from operations.conditions import Facts
from operations.start_page import needing_attention, todays_figures

register = template.Library()


@register.inclusion_tag("operations/start_page.html")
def start_page() -> dict[str, Any]:
    facts = Facts()
    return {
        "problems": needing_attention(facts),
        "failures": facts.failures,
        "today": todays_figures(),
    }
