"""The figures on the admin's start page."""

from __future__ import annotations

from django import template

from operations.start_page import Figure, needing_attention, todays_figures

register = template.Library()


@register.simple_tag
def figures_of_today() -> list[Figure]:
    return todays_figures()


@register.simple_tag
def attention() -> list[Figure]:
    return needing_attention()
