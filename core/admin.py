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
from django.db import DEFAULT_DB_ALIAS, DataError, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import capfirst

from core.replica import listed


class CappedPaginator(Paginator):
    """Counts at most 10,000 rows: counting a table that grows with traffic takes too long."""

    MOST = 10_000
    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        return self.object_list.order_by()[: self.MOST].count()


class OrderedPaginator(CappedPaginator):
    """Counts in the order of the list, for a list whose order is that of the index to read."""

    @cached_property
    def count(self) -> int:
        return self.object_list[: self.MOST].count()


class _List(ChangeList):
    """A list that is read when it is made, from the request's ``list_database``."""

    def get_results(self, request: HttpRequest) -> None:
        self.queryset = self.queryset.using(request.list_database)  # type: ignore[attr-defined]
        super().get_results(request)
        len(self.result_list)


class ListAdmin(admin.ModelAdmin):
    """A list that reports an invalid filter instead of failing.

    Django finds some invalid filters in a URL when it builds the query; PostgreSQL finds others.
    """

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title} | (extra_context or {}))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Reject ranges too: no page uses one, and Django splits a text into its two ends."""
        return not lookup.endswith("__range") and super().lookup_allowed(lookup, value, request)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        if request.method != "GET":  # an action may change the rows
            return self._list_of(request, DEFAULT_DB_ALIAS)
        return listed(lambda database: self._list_of(request, database))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _List

    def _list_of(self, request: HttpRequest, database: str) -> ChangeList:
        request.list_database = database  # type: ignore[attr-defined]
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
    """A read-only page, for tables of any size: nothing is counted or sorted as a whole."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    # The order of one account's rows, which its index has. None if that is the order of all.
    ordering_of_account: tuple[str, ...] | None = None

    def get_ordering(self, request: HttpRequest) -> Any:
        is_of_account = "account__id__exact" in request.GET
        of_account = self.ordering_of_account if is_of_account else None
        return of_account or super().get_ordering(request)


class ReadOnlyInline(_ReadOnly, admin.TabularInline):
    extra = 0


LONGEST_EMAIL = 24


def account_link(account_id: str, email: str) -> str:
    """Return a link to an account's page; a long address ends in an ellipsis, and is the title."""
    is_long = len(email) > LONGEST_EMAIL
    short = f"{email[: LONGEST_EMAIL - 1]}…" if is_long else email
    url = reverse("admin:accounts_account_change", args=[account_id])
    return format_html('<a href="{}" title="{}">{}</a>', url, email, short)


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
