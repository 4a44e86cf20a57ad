"""The admin's pages of accounts. They never show a password hash, a key digest or a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Field, ManyToManyField, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from accounts.audit import Action, audit
from accounts.models import KEY_PREFIX, Account, ApiKey
from accounts.permissions import may_operate_on
from accounts.second_factors import has_second_factor, second_factors_remove_all
from accounts.services import account_activate, account_suspend, account_unsuspend
from billing.closing import customer_update_soon
from core.admin import Confirmation, ListAdmin, asks_first
from core.ids import is_id
from core.texts import validate_line
from operations.closing import account_delete
from telephony.models import PhoneNumber, ReleasedNumber
from telephony.numbering import parse_number

RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")

# The events for changed fields; for flags, when they are off and on now.
_ACTIONS = {
    "email": Action.EMAIL_CHANGED,
    "company_name": Action.COMPANY_RENAMED,
    "status": Action.STATUS_CHANGED,
}
_SWITCHES = {
    "suspended_by_operator": (Action.UNSUSPENDED, Action.SUSPENDED),
    "is_active": (Action.DISABLED, Action.ENABLED),
}


class AccountCreationForm(AdminUserCreationForm):
    class Meta:
        model = Account
        fields = ["email", "company_name", "status"]


class NewPasswordForm(AdminPasswordChangeForm):
    """Sets a new password, or disables password sign-in."""

    @transaction.atomic
    def save(self, commit: bool = True) -> Account:
        account: Account = super().save(commit)
        if not account.has_usable_password():
            audit(account=account, action=Action.PASSWORD_REMOVED)
        return account


class SuspensionForm(Confirmation):
    reason = forms.CharField(
        max_length=500,
        validators=[validate_line],
        help_text="For other operators. The customer does not see it.",
    )


# An account's rows in other apps: the list, and the filter for one account.
_ELSEWHERE = (
    ("calls", "telephony_call", "q"),
    ("numbers", "telephony_phonenumber", "account__id__exact"),
    ("usage", "usage_usagerecord", "account__id__exact"),
    ("callbacks", "telephony_callbackdelivery", "account__id__exact"),
    ("meter events", "billing_meterevent", "q"),
    ("Stripe customer", "billing_stripecustomer", "q"),
    ("status changes", "billing_statuschange", "q"),
    ("audit log", "accounts_auditevent", "q"),
)


admin.site.unregister(Group)


# Django's two boxes with arrows cannot be read by a screen reader, nor used on a phone.
_CHECKBOXES: Mapping[type[Field[Any, Any]], Mapping[str, Any]] = {
    ManyToManyField: {"widget": forms.CheckboxSelectMultiple}
}


@admin.register(Group)
class RightsAdmin(ListAdmin, GroupAdmin):
    """Groups for superusers only, because a group gives its members rights."""

    filter_horizontal = ()
    formfield_overrides = _CHECKBOXES

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)


class ApiKeyInline(admin.TabularInline):
    model = ApiKey
    fields = ["created_at", "last_used_at", "revoked_at"]  # the key itself is shown above
    readonly_fields = ["created_at", "last_used_at"]
    ordering = ["-created_at", "-id"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Account)
class AccountAdmin(ListAdmin, UserAdmin):
    list_display = ["email", "company_name", "effective_status", "created_at", "last_login"]
    list_filter = ["status", "suspended_by_operator", "is_active", "is_staff", "last_login"]
    search_fields = ["email"]  # what is searched follows from the term: `_found`
    search_help_text = (
        "Search by email address, company, phone number, account ID, Stripe customer ID (cus_…) "
        "or API key prefix (rtk_…)."
    )
    ordering = ["-id"]  # by time of creation, on the primary key's index
    show_full_result_count = False
    actions = ["activate", "suspend", "unsuspend", "remove_second_factor", "delete_for_good"]
    inlines = [ApiKeyInline]

    filter_horizontal = ()
    formfield_overrides = _CHECKBOXES
    form = forms.ModelForm
    add_form = AccountCreationForm
    change_password_form = NewPasswordForm
    add_fieldsets = [
        (None, {"fields": ["email", "company_name", "status"]}),
        ("Password", {"fields": ["usable_password", "password1", "password2"]}),
    ]
    fieldsets = [
        (None, {"fields": ["id", "email", "company_name", "password_link"]}),
        ("Related", {"fields": ["elsewhere", "as_the_customer"]}),
        (
            "Status",
            {
                "fields": [
                    "status",
                    "suspended_by_operator",
                    "suspension_reason",
                    "is_active",
                    "second_factor",
                ]
            },
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
        "second_factor",
        "created_at",
        "last_login",
        "email_verified_at",
        "closed_at",
    ]

    def formfield_for_manytomany(
        self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.ModelMultipleChoiceField[Any] | None:
        """Read the permissions with the content types that their names begin with."""
        if db_field.name == "user_permissions":
            kwargs["queryset"] = Permission.objects.select_related("content_type")
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    @admin.display(description="password")
    def password_link(self, account: Account) -> str:
        url = reverse("admin:auth_user_password_change", args=[account.pk])
        return format_html('<a href="{}">Set new password</a>', url)

    @admin.display(description="see also")
    def elsewhere(self, account: Account) -> str:
        links = (
            (f"{reverse(f'admin:{model}_changelist')}?{key}={account.pk}", label)
            for label, model, key in _ELSEWHERE
        )
        return format_html_join(" · ", '<a href="{}">{}</a>', links)

    @admin.display(description="customer's view")
    def as_the_customer(self, account: Account) -> str:
        url = reverse("impersonate", args=[account.pk])
        return format_html('<a href="{}">View dashboard (logged)</a>', url)

    @admin.display(description="second factor", boolean=True)
    def second_factor(self, account: Account) -> bool:
        return has_second_factor(account)

    @admin.action(description="Activate the selected accounts", permissions=["change"])
    def activate(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        self._apply(request, accounts, account_activate, "Activated.")

    @admin.action(description="Suspend the selected accounts", permissions=["change"])
    @asks_first(
        "Suspend these accounts?",
        "They can't make or receive calls. Calls in progress continue.",
        SuspensionForm,
    )
    def suspend(self, request: HttpRequest, accounts: QuerySet[Account], reason: str) -> None:
        self._apply(
            request, accounts, partial(account_suspend, reason=reason), f"Suspended: {reason}"
        )

    @admin.action(description="Unsuspend the selected accounts", permissions=["change"])
    def unsuspend(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        self._apply(request, accounts, account_unsuspend, "Unsuspended.")

    @admin.action(
        description="Remove the second factor of the selected accounts", permissions=["change"]
    )
    @asks_first(
        "Remove the second factor of these accounts?",
        "Afterwards, the password alone is enough to sign in. Verify the customer's identity "
        "first. We notify the customer by email.",
    )
    def remove_second_factor(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        for account in accounts:
            if not self.has_change_permission(request, account):
                refusal = f"You can't change {account}."
            elif account.is_staff:
                refusal = f"Account {account} is an operator's: use manage.py remove_second_factor."
            elif not second_factors_remove_all(account=account):
                refusal = f"Account {account} has no second factor."
            else:
                self.log_change(request, account, "Removed the second factor.")
                self.message_user(
                    request, f"Account {account}: Second factor removed.", messages.SUCCESS
                )
                continue
            self.message_user(request, refusal, messages.ERROR)

    def has_delete_for_good_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.delete_account"))

    @admin.action(description="Delete the selected account", permissions=["delete_for_good"])
    @asks_first(
        "Delete this account?",
        "You can't undo this. Its API keys, sessions and phone numbers end now, its calls in "
        "progress are hung up, and its subscription is canceled. Records of calls, usage and "
        "invoices stay.",
    )
    def delete_for_good(self, request: HttpRequest, accounts: QuerySet[Account]) -> None:
        """Delete one account as its owner would; one, because a mistake cannot be undone."""
        if len(accounts) != 1:
            self.message_user(request, "Delete one account at a time.", messages.ERROR)
            return
        account, email = accounts[0], accounts[0].email
        if refusal := self._delete_refusal(request, account):
            self.message_user(request, refusal, messages.ERROR)
            return
        account_delete(account=account)
        self.log_change(request, account, "Deleted the account.")
        self.message_user(request, f"Account {email}: Deleted.", messages.SUCCESS)

    def _delete_refusal(self, request: HttpRequest, account: Account) -> str:
        """Return why the account cannot be deleted; "" if it can."""
        if not _may_touch(request, account):
            return f"You can't delete {account}."
        if account.is_staff:
            return f"Account {account} is an operator's: remove its operator rights first."
        return f"Account {account} is already deleted." if account.closed_at else ""

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
                self.message_user(request, f"Account {account}: {done}", messages.SUCCESS)
            else:
                self.message_user(request, f"You can't change {account}.", messages.ERROR)

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        if change:
            if "email" in form.changed_data:
                obj.email_verified_at = None
            super().save_model(request, obj, form, change)
            _audit_changes(obj, form)
            if {"email", "company_name"} & set(form.changed_data):
                customer_update_soon(account=obj)
        else:
            Account.objects.add(obj)
            audit(account=obj, action=Action.REGISTERED)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Account], search_term: str
    ) -> tuple[QuerySet[Account], bool]:
        return _found(queryset, search_term.strip()), False

    def get_inlines(self, request: HttpRequest, obj: Account | None) -> list[Any]:
        return self.inlines if obj else []

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> list[str]:
        """Let only superusers grant rights; else any operator could become one."""
        rights = () if _is_superuser(request) else RIGHTS
        return [*self.readonly_fields, *rights]

    def has_change_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        """Never delete the row: its records, invoices and log entries need it."""
        return False


def _found(accounts: QuerySet[Account], term: str) -> QuerySet[Account]:
    """Find accounts by the whole of a number or an ID, or by part of an address or a name."""
    if is_id(term):
        return accounts.filter(pk=term)
    if term.startswith("cus_"):
        return accounts.filter(stripe_customer__customer_id=term)
    if term.startswith(KEY_PREFIX):
        keys = ApiKey.objects.filter(prefix=term[: ApiKey.PREFIX_LENGTH])
        return accounts.filter(pk__in=keys.values("account"))
    if number := parse_number(term):
        owners = [
            model.objects.filter(phone_number=number).values("account")
            for model in (PhoneNumber, ReleasedNumber)
        ]
        return accounts.filter(Q(pk__in=owners[0]) | Q(pk__in=owners[1]))
    return accounts.filter(Q(email__contains=term.lower()) | Q(company_name__icontains=term))


def _audit_changes(account: Account, form: forms.ModelForm[Account]) -> None:
    """Log the changes that an operator made in an account's form, as services do."""
    for name in form.changed_data:
        before, after = form.initial.get(name), getattr(account, name)
        if name in _ACTIONS:
            audit(account=account, action=_ACTIONS[name], before=str(before), after=str(after))
        elif name in _SWITCHES:
            audit(account=account, action=_SWITCHES[name][bool(after)])
    if rights := [name for name in form.changed_data if name in RIGHTS]:
        audit(account=account, action=Action.RIGHTS_CHANGED, changed=rights)


def _may_touch(request: HttpRequest, account: Account | None) -> bool:
    return account is None or may_operate_on(cast(Account, request.user), account)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))
