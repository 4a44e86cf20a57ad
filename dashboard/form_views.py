"""The views of a page with several forms, each of which posts to a URL of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_POST

from core.errors import ApiError
from dashboard.access import PageRequest, View, for_customer
from dashboard.forms import refuse

#: The forms of a page, by name. The ids of a form's fields begin with its name.
Forms = Mapping[str, type[forms.Form]]
#: Does what a valid form asks for, and redirects. May raise ``ApiError`` or ``ValidationError``.
Act = Callable[[PageRequest, dict[str, Any]], HttpResponse]


class Show(Protocol):
    """Return the page, with these forms in place of empty ones."""

    def __call__(
        self, request: PageRequest, bound: Mapping[str, forms.Form], *, status: int
    ) -> HttpResponse: ...


def empty_forms(types: Forms, initial: Mapping[str, dict[str, Any]]) -> dict[str, forms.Form]:
    """Return a page's forms with their initial values, by name."""
    return {
        name: form(auto_id=f"{name}_%s", initial=initial.get(name)) for name, form in types.items()
    }


def form_view(
    types: Forms, show: Show, name: str, *, guard: Callable[[View], View] = lambda view: view
) -> Callable[[Act], View]:
    """Serve the POST of one form. Its errors are shown in it, among the other forms.

    :param guard: a decorator that asks for proof of identity first.
    """
    return partial(_serve, types[name], show, name, guard)


def _serve(
    form_type: type[forms.Form], show: Show, name: str, guard: Callable[[View], View], act: Act
) -> View:
    @sensitive_post_parameters()
    @for_customer
    @require_POST
    @guard
    @sensitive_variables()
    def served(request: PageRequest) -> HttpResponse:
        form = form_type(request.POST, auto_id=f"{name}_%s")
        if form.is_valid():
            try:
                return act(request, form.cleaned_data)
            except (ApiError, ValidationError) as refusal:
                refuse(form, refusal)
                request.user.refresh_from_db()
        return show(request, {name: form}, status=400)

    return served
