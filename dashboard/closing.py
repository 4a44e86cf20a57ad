"""Deleting an account: everything that ends with it, in one transaction."""

from __future__ import annotations

import structlog
from django.db import transaction

from accounts.models import Account
from accounts.services import account_close
from billing.closing import subscriptions_end_soon
from config.errors import ApiError
from telephony.hangup import calls_request_hangup
from telephony.numbers import phone_numbers_remove_all

log = structlog.get_logger(__name__)


@transaction.atomic
def account_delete(*, account: Account) -> int:
    """Delete an account for its owner; return how many live calls are being ended.

    Its numbers, keys, sessions and its subscription end; records of calls, usage and invoices stay.
    Raises 409 ``operator`` for operators, who have the admin for it.
    """
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    if account.is_staff:
        raise ApiError(
            409, "operator", "This is an operator's account: it can be removed in the admin alone."
        )
    account_close(account=account)
    phone_numbers_remove_all(account=account)
    calls = calls_request_hangup(account=account)
    subscriptions_end_soon(account=account)
    log.info("account_deleted", account_id=account.id, live_calls=calls)
    return calls
