"""The admin's pages of billing: an account's Stripe customer, and the history of its status.

They are read-only: subscriptions and payments are managed in Stripe. dj-stripe's own pages are
removed, because their actions are dangerous (they delete endpoints and synchronize everything).
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

import billing.metering.admin  # noqa: F401  (registers its pages)
from billing.models import PlanPart, StatusChange, StatusCheck, StripeCustomer
from billing.status_checks import status_mark
from core.admin import ReadOnlyAdmin, account_link, asks_first

_BY_ACCOUNT = ("=account__id", "=account__email")

for _model in [model for model in admin.site._registry if model._meta.app_label == "djstripe"]:
    admin.site.unregister(_model)


class AccountLinkAdmin(ReadOnlyAdmin):
    """The page of a model that belongs to an account."""

    list_select_related = ["account"]
    search_help_text = "Search by account ID or email address."

    @admin.display(description="account", ordering="account_id")
    def account_link(self, row: Any) -> str:
        return account_link(row.account_id, row.account.email)


class CheckNowAdmin(AccountLinkAdmin):
    """A page with an action for operators who may change customers."""

    actions = ["check_now"]

    def has_check_now_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("billing.change_stripecustomer"))

    @admin.action(description="Check with Stripe now", permissions=["check_now"])
    @asks_first(
        "Check these accounts with Stripe?",
        "We fetch their subscriptions from Stripe and update their status, which may block or "
        "allow their calls.",
    )
    def check_now(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        for row in rows:
            status_mark(account_id=row.account_id, cause=f"operator {request.user.pk}")
            self.log_change(request, row, "Requested a check with Stripe.")
        self.message_user(
            request,
            f"Checks requested: {len(rows)}. Changes appear under status changes in a moment.",
            messages.SUCCESS,
        )


@admin.register(StripeCustomer)
class StripeCustomerAdmin(CheckNowAdmin):
    list_display = ["customer_id", "account_link", "account_status", "checkout_at", "created_at"]
    search_fields = ["=customer_id", *_BY_ACCOUNT]
    search_help_text = "Search by customer ID (cus_…), account ID or email address."
    ordering = ["-account_id"]  # by time of creation, on the primary key's index
    fields = [
        ("account_link", "account_status"),
        ("customer_id", "at_stripe"),
        ("created_at", "deleted_at"),
        ("checkout_number", "checkout_at", "checkout_id"),
    ]

    @admin.display(description="status")
    def account_status(self, customer: StripeCustomer) -> str:
        return customer.account.effective_status

    @admin.display(description="in Stripe")
    def at_stripe(self, customer: StripeCustomer) -> str:
        if settings.STRIPE_SANDBOX:
            return "in the sandbox"
        mode = "" if settings.STRIPE_LIVE_MODE else "test/"
        url = f"https://dashboard.stripe.com/{mode}customers/{customer.customer_id}"
        return format_html('<a href="{}">Dashboard</a>', url)


class InDoubtFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "in_doubt"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Unconfirmed"), ("no", "Confirmed")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[StatusCheck]
    ) -> QuerySet[StatusCheck]:
        match self.value():
            case "yes":
                return queryset.filter(marks__gt=F("settled"))
            case "no":
                return queryset.filter(marks=F("settled"))
        return queryset


@admin.register(StatusCheck)
class StatusCheckAdmin(CheckNowAdmin):
    list_display = ["account_link", "cause", "marks", "settled", "marked_at", "settled_at"]
    list_display_links = ["cause"]
    list_filter = [InDoubtFilter]
    search_fields = _BY_ACCOUNT
    ordering = ["-account_id"]
    fields = ["account_link", "cause", ("marks", "settled"), ("marked_at", "settled_at")]


@admin.register(StatusChange)
class StatusChangeAdmin(AccountLinkAdmin):
    list_display = ["at", "account_link", "before", "after", "cause", "subscription_status"]
    list_filter = ["after"]
    search_fields = _BY_ACCOUNT
    ordering = ["-id"]
    fields = [
        ("at", "account_link"),
        ("before", "after"),
        "cause",
        ("subscription_id", "subscription_status"),
    ]


@admin.register(PlanPart)
class PlanPartAdmin(ReadOnlyAdmin):
    list_display = ["name", "stripe_id", "cents"]
    ordering = ["name"]
    fields = ["name", "stripe_id", "cents"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanPart]:
        return super().get_queryset(request).defer("sealed_secret")
