"""Deleting an account: what ends with it at once, in one transaction, and what ends after that.

The subscription is the last to go. Calls that are on have to end, their records to be written, and
their minutes to be counted, before there can be an invoice that has them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from accounts.models import Account
from accounts.services import account_close
from billing.closing import subscriptions_end, subscriptions_end_soon
from core.errors import ApiError
from telephony.hangup import calls_request_hangup
from telephony.numbers import phone_numbers_remove_all

log = structlog.get_logger(__name__)

# A request that was under way when the account was closed may still let a call in, or register a
# number.
SETTLED_AFTER = timedelta(seconds=10)
# Longer than a call can last, ringing and the search for calls of dead engines included.
CALLS_END_WITHIN = timedelta(hours=2)
# How soon it is looked again, by how long the account has been closed.
_LOOKS = (
    (timedelta(minutes=1), timedelta(seconds=3)),
    (timedelta(minutes=10), timedelta(seconds=15)),
)
_LATER_LOOKS = timedelta(minutes=1)


@transaction.atomic
def account_delete(*, account: Account) -> int:
    """Delete an account for its owner; return how many live calls are being ended.

    Its numbers, keys and sessions end, and its subscription when its calls have
    (:func:`account_end`); records of calls, usage and invoices stay. Raises 409 ``operator`` for
    operators, who have the admin for it.
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


def account_end(*, account_id: str) -> None:
    """End what goes on of a deleted account: its calls, then its subscription.

    While something is waited for it looks again later, in a job of its own. Killed anywhere, it can
    be done again. Raises 502 ``payments_unavailable``.
    """
    account = Account.objects.filter(pk=account_id).exclude(closed_at=None).first()
    if account is None or account.closed_at is None:
        return
    now = timezone.now()
    phone_numbers_remove_all(account=account)  # nobody else could register a late one, ever
    live = calls_request_hangup(account=account)
    may_be_more = now < account.closed_at + SETTLED_AFTER
    is_waited_for = live and now < account.closed_at + CALLS_END_WITHIN
    if may_be_more or is_waited_for or not subscriptions_end(account_id, given_up=live):
        subscriptions_end_soon(account=account, at=_next_look(account.closed_at))


def _next_look(closed_at: datetime) -> datetime:
    now = timezone.now()
    return now + next(
        (wait for age, wait in _LOOKS if now < closed_at + age),
        _LATER_LOOKS,
    )
