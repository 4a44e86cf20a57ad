"""The audit log for operators; what they see of accounts themselves is ``operations.accounts``."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html

from accounts.audit import AuditEvent
from accounts.models import Account
from core.admin import ReadOnlyAdmin, account_link

# Only owners add second factors, and allauth's email addresses are not used.
admin.site.unregister([Authenticator, EmailAddress])


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = [
        "created_at",
        "account_link",
        "sentence",
        "actor_kind",
        "actor_label",
        "network",
    ]
    search_fields = ["account_id"]
    search_help_text = "Search by account ID or email address."
    fields = [
        ("created_at", "account_link"),
        ("action", "sentence"),
        ("actor_kind", "actor_label", "actor_id"),
        "detail",
        ("network", "request_id"),
    ]

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        """Order by time on an index: the primary key's, or the account's for a search."""
        return ["-created_at", "-id"] if request.GET.get("q", "").strip() else ["-id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        accounts = Account.objects.filter(pk=OuterRef("account_id"))
        return super().get_queryset(request).annotate(email=Subquery(accounts.values("email")))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        """Find an account's events, which outlive the account."""
        term = search_term.strip()
        if not term:
            return queryset, False
        account = Account.objects.with_email(term).first()
        return queryset.filter(account_id=account.pk if account else term), False

    @admin.display(description="account")
    def account_link(self, event: Any) -> str:
        if event.email is None:
            return format_html("{} (removed)", event.account_id)
        return account_link(event.account_id, event.email)

    @admin.display(description="event")
    def sentence(self, event: AuditEvent) -> str:
        return event.sentence
