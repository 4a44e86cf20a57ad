"""Accounts for operators. Nothing here shows a password's hash, a key's digest or a secret."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from accounts.models import Account, ApiKey
from accounts.services import account_activate, account_suspend, account_unsuspend
from config.admin import Confirmation, asks_first

RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


class AccountCreationForm(AdminUserCreationForm):
    class Meta:
        model = Account
        fields = ["email", "company_name", "status"]


class SuspensionForm(Confirmation):
    reason = forms.CharField(
        max_length=500, help_text="For other operators; the customer does not see it."
    )


# What other apps have of an account: the list, and how it is narrowed down to one account.
_ELSEWHERE = (
    ("calls", "telephony_call", "q"),
    ("numbers", "telephony_phonenumber", "account__id__exact"),
    ("usage", "usage_usagerecord", "account__id__exact"),
    ("callbacks", "telephony_callbackdelivery", "account__id__exact"),
    ("minutes at Stripe", "billing_meterevent", "q"),
    ("customer at Stripe", "billing_stripecustomer", "q"),
    ("status changes", "billing_statuschange", "q"),
)


class ApiKeyInline(admin.TabularInline):
    model = ApiKey
    fields = ["created_at", "last_used_at", "revoked_at"]  # the key itself stands above them
    readonly_fields = ["created_at", "last_used_at"]
    ordering = ["-created_at", "-id"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Account)
class AccountAdmin(UserAdmin):
    list_display = ["email", "company_name", "effective_status", "created_at", "last_login"]
    list_filter = ["status", "suspended_by_operator", "is_active", "is_staff", "last_login"]
    search_fields = ["email", "company_name", "=id", "=api_keys__prefix"]
    ordering = ["-id"]  # by time of creation, on the primary key's index
    show_full_result_count = False
    actions = ["activate", "suspend", "unsuspend"]
    inlines = [ApiKeyInline]

    form = forms.ModelForm
    add_form = AccountCreationForm
    add_fieldsets = [
        (None, {"fields": ["email", "company_name", "status"]}),
        ("Password", {"fields": ["usable_password", "password1", "password2"]}),
    ]
    fieldsets = [
        (None, {"fields": ["id", "email", "company_name", "password_link"]}),
        ("Elsewhere", {"fields": ["elsewhere", "as_the_customer"]}),
        (
            "Standing",
            {"fields": ["status", "suspended_by_operator", "suspension_reason", "is_active"]},
        ),
        (
            "Operators only",
            {"fields": RIGHTS, "classes": ["collapse"]},
        ),
        ("Dates", {"fields": ["created_at", "last_login", "email_verified_at", "closed_at"]}),
    ]
    readonly_fields = [
        "id",
        "password_link",
        "elsewhere",
        "as_the_customer",
        "created_at",
        "last_login",
        "email_verified_at",
        "closed_at",
    ]

    @admin.display(description="password")
    def password_link(self, account: Account) -> str:
        url = reverse("admin:auth_user_password_change", args=[account.pk])
        return format_html('<a href="{}">Set a new password</a>', url)

    @admin.display(description="what it has")
    def elsewhere(self, account: Account) -> str:
        links = (
            (f"{reverse(f'admin:{model}_changelist')}?{key}={account.pk}", label)
            for label, model, key in _ELSEWHERE
        )
        return format_html_join(" · ", '<a href="{}">{}</a>', links)

    @admin.display(description="as the customer sees it")
    def as_the_customer(self, account: Account) -> str:
        url = reverse("impersonate", args=[account.pk])
        return format_html('<a href="{}">Look at the dashboard (it is logged)</a>', url)

    @admin.action(description="Activate: let the selected accounts call", permissions=["change"])
    def activate(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        self._apply(request, accounts, account_activate, "Activated.")

    @admin.action(description="Suspend the selected accounts", permissions=["change"])
    @asks_first(
        "Suspend these accounts?",
        "They can neither place nor take calls. A call that is on goes on.",
        SuspensionForm,
    )
    def suspend(self, request: HttpRequest, accounts: QuerySet[Account], reason: str) -> None:
        self._apply(
            request, accounts, partial(account_suspend, reason=reason), f"Suspended: {reason}"
        )

    @admin.action(description="Unsuspend the selected accounts", permissions=["change"])
    def unsuspend(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        self._apply(request, accounts, account_unsuspend, "Unsuspended.")

    def _apply(
        self,
        request: HttpRequest,
        accounts: QuerySet[Account],
        service: Callable[..., None],
        done: str,
    ) -> None:
        for account in accounts:
            if self.has_change_permission(request, account):
                service(account=account)
                self.log_change(request, account, done)
                self.message_user(request, f"{account}: {done}", messages.SUCCESS)
            else:
                self.message_user(request, f"You may not change {account}.", messages.ERROR)

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        if change:
            if "email" in form.changed_data:
                obj.email_verified_at = None
            super().save_model(request, obj, form, change)
        else:
            Account.objects.add(obj)

    def get_inlines(self, request: HttpRequest, obj: Account | None) -> list[Any]:
        return self.inlines if obj else []

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> list[str]:
        """Only a superuser gives rights away; else any operator could become one."""
        rights = () if _is_superuser(request) else RIGHTS
        return [*self.readonly_fields, *rights]

    def has_change_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)


def _may_touch(request: HttpRequest, account: Account | None) -> bool:
    """Only a superuser touches a superuser, whose password would open everything."""
    return account is None or not account.is_superuser or _is_superuser(request)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))
