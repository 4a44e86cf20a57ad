"""``/v1/account`` and ``/v1/balance``: whose Stripe this is."""

from __future__ import annotations

from typing import Any

from django.db.models import BigIntegerField, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from stripe.params import AccountRetrieveCurrentParams, AccountRetrieveParams, BalanceRetrieveParams

from sandbox.payments.models import StripeObject
from sandbox.payments.wire.errors import Refusal
from sandbox.payments.wire.requests import Params, endpoint

ACCOUNT_ID = "acct_1Sandb0xSandb0x0"


@endpoint("GET /v1/account", AccountRetrieveCurrentParams)
def retrieve_current(params: Params) -> dict[str, Any]:
    return {
        "id": ACCOUNT_ID,
        "object": "account",
        "business_profile": {"name": "Switchhook (sandbox)", "url": None, "support_phone": None},
        "business_type": "company",
        "capabilities": {"card_payments": "active"},
        "charges_enabled": True,
        "country": "US",
        "created": 1_767_225_600,
        "default_currency": "usd",
        "details_submitted": True,
        "email": "sandbox@example.org",
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }


@endpoint("GET /v1/accounts/{id}", AccountRetrieveParams)
def retrieve(params: Params, id: str) -> dict[str, Any]:
    if id != ACCOUNT_ID:
        raise Refusal(
            f"The provided key does not have access to account '{id}' (or that account does not "
            "exist). Application access may have been revoked.",
            status=403,
            code="account_invalid",
        )
    return retrieve_current(params)


@endpoint("GET /v1/balance", BalanceRetrieveParams)
def retrieve_balance(params: Params) -> dict[str, Any]:
    transactions = StripeObject.objects.of("balance_transaction")
    net = Cast(KT("body__net"), BigIntegerField())
    pending = transactions.aggregate(total=Sum(net))["total"] or 0
    return {
        "object": "balance",
        "available": [_amount(0)],
        "livemode": False,
        "pending": [_amount(pending)],
    }


def _amount(cents: int) -> dict[str, Any]:
    return {"amount": cents, "currency": "usd", "source_types": {"card": cents}}
