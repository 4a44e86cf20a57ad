"""Base classes for pages of the admin."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import DataError, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.functional import cached_property


class CappedPaginator(Paginator):
    """Counts at most 10,000 rows: counting a table that grows with traffic takes too long."""

    MOST = 10_000
    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        return self.object_list.order_by()[: self.MOST].count()


class ListAdmin(admin.ModelAdmin):
    """A list that reports an invalid filter instead of failing.

    Django finds some invalid filters in a URL when it builds the query; PostgreSQL finds others.
    """

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Reject ranges too: no page uses one, and Django splits a text into its two ends."""
        return not lookup.endswith("__range") and super().lookup_allowed(lookup, value, request)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        try:
            with transaction.atomic():
                return super().get_changelist_instance(request)
        except (DataError, OverflowError, ValueError) as error:
            raise IncorrectLookupParameters from error


class _ReadOnly:
    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(_ReadOnly, ListAdmin):
    """A read-only page, for tables of any size."""

    paginator = CappedPaginator
    show_full_result_count = False


class ReadOnlyInline(_ReadOnly, admin.TabularInline):
    extra = 0


class Confirmation(forms.Form):
    """The confirmation of an action. Subclasses may add fields."""

    confirmed = forms.CharField(widget=forms.HiddenInput, initial="yes")


def asks_first(
    title: str, consequence: str, form_class: type[Confirmation] = Confirmation
) -> Callable[[Callable[..., None]], Callable[..., HttpResponse | None]]:
    """Ask for confirmation of an action on a separate page. Use it below ``@admin.action``.

    The action gets the values of the form's other fields as keyword arguments.

    :param consequence: the effect of the action, in a sentence.
    """

    def decorate(action: Callable[..., None]) -> Callable[..., HttpResponse | None]:
        @wraps(action)
        def asking(
            self: admin.ModelAdmin[Any], request: HttpRequest, chosen: QuerySet[Any]
        ) -> HttpResponse | None:
            form = form_class(request.POST if "confirmed" in request.POST else None)
            if form.is_valid():
                answers = {k: v for k, v in form.cleaned_data.items() if k != "confirmed"}
                action(self, request, chosen, **answers)
                return None
            context = {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": title,
                "consequence": consequence,
                "chosen": chosen,
                "form": form,
                "action": request.POST.get("action"),
                "checkbox_name": ACTION_CHECKBOX_NAME,
            }
            return TemplateResponse(request, "admin/confirm.html", context)

        return asking

    return decorate
