"""The API's endpoints for billing. They work whatever the account's status."""

from __future__ import annotations

from django.conf import settings
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.authentication import AccountRequest
from billing.checkout import checkout_open
from billing.customers import has_payment_method
from billing.portal import (
    NO_UPCOMING_INVOICE,
    invoices_of,
    portal_url_for,
    upcoming_invoice_of,
)
from billing.serializers import (
    InvoicesSerializer,
    PageAddressSerializer,
    SubscriptionSerializer,
    UpcomingInvoiceSerializer,
    invoice_body,
    upcoming_invoice_body,
)
from core.api import as_number, validated
from core.errors import Refusals
from core.schema import endpoint
from usage.models import TotalUsage
from usage.serializers import SpendingLimitSerializer, SpendingSerializer, spending_body
from usage.spending import spending_limit_set, spending_of

STRIPE_IS_ASKED: Refusals = {
    502: {"payments_unavailable": "Stripe can't be reached. Try again in a minute."}
}


class BillingViewSet(ViewSet):
    @endpoint(
        "getSubscription",
        "Get the subscription, its prices and total usage",
        answers={200: SubscriptionSerializer},
    )
    @action(detail=False)
    def subscription(self, request: AccountRequest) -> Response:
        account = request.user
        total = TotalUsage.objects.total_of(account)
        return Response(
            {
                "status": account.effective_status,
                "monthlyBase": as_number(settings.MONTHLY_BASE),
                "perMinuteRate": as_number(settings.PER_MINUTE_RATE),
                "totalCalls": total.calls,
                "totalMinutes": total.minutes,
                "hasPaymentMethod": has_payment_method(account),
            }
        )

    @endpoint(
        "openCheckout",
        "Open a checkout page",
        description=(
            "An inactive account subscribes on this page. Returns the same page until it is paid "
            "or expires."
        ),
        answers={200: PageAddressSerializer},
        errors={
            403: {"account_suspended": "Support suspended the account."},
            409: {"already_subscribed": "The account already has a subscription. Use the portal."},
            **STRIPE_IS_ASKED,
        },
    )
    @action(detail=False, methods=["post"])
    def checkout(self, request: AccountRequest) -> Response:
        return Response({"url": checkout_open(account=request.user)})

    @endpoint(
        "openBillingPortal",
        "Open the billing portal",
        answers={200: PageAddressSerializer},
        errors=STRIPE_IS_ASKED,
    )
    @action(detail=False, methods=["post"])
    def portal(self, request: AccountRequest) -> Response:
        return Response({"url": portal_url_for(request.user)})

    @endpoint(
        "listInvoices",
        "List the invoices",
        description="Newest first, at most 100.",
        answers={200: InvoicesSerializer},
        errors=STRIPE_IS_ASKED,
    )
    @action(detail=False)
    def invoices(self, request: AccountRequest) -> Response:
        return Response({"invoices": [invoice_body(found) for found in invoices_of(request.user)]})

    @endpoint(
        "getUpcomingInvoice",
        "Get the upcoming invoice",
        description="Calls appear on it about a minute after they end.",
        answers={200: UpcomingInvoiceSerializer},
        errors={404: {"no_upcoming_invoice": NO_UPCOMING_INVOICE}, **STRIPE_IS_ASKED},
    )
    @action(detail=False, url_path="invoices/upcoming")
    def upcoming_invoice(self, request: AccountRequest) -> Response:
        return Response(upcoming_invoice_body(upcoming_invoice_of(request.user)))

    @endpoint(
        "getSpendingLimit",
        "Get the monthly spending limit and the spending so far",
        answers={200: SpendingSerializer},
    )
    @action(detail=False, url_path="spending-limit")
    def spending_limit(self, request: AccountRequest) -> Response:
        return Response(spending_body(spending_of(request.user)))

    @endpoint(
        "setSpendingLimit",
        "Set the monthly spending limit",
        description=(
            "Limits what your calls may cost in a month (UTC), without the base fee. You get an "
            "email at 50%, 80% and 100%. At 100%, new inbound and outbound calls are rejected "
            "until you raise the limit or the next month begins. Calls in progress continue. A "
            "limit at or below what you have already spent is reached at once: the response then "
            "has `isReached: true`."
        ),
        request=SpendingLimitSerializer,
        answers={200: SpendingSerializer},
    )
    @spending_limit.mapping.put
    def set_spending_limit(self, request: AccountRequest) -> Response:
        amount = validated(SpendingLimitSerializer, request).get("amount")
        return Response(spending_body(spending_limit_set(account=request.user, amount=amount)))
