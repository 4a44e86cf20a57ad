"""Deleting an account: first in one transaction, then in a job.

The subscription is canceled last. Calls in progress have to end, and their minutes to be recorded
and reported, before an invoice can include them.
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
from telephony.greetings import greetings_delete
from telephony.hangup import calls_request_hangup
from telephony.notices import notification_settings_delete
from telephony.numbers import phone_numbers_remove_all

log = structlog.get_logger(__name__)

# A request that was in progress when the account was closed may still accept a call, register a
# number or set a webhook.
SETTLED_AFTER = timedelta(seconds=10)
# Longer than any call, including ringing and the time to find calls of dead engines.
CALLS_END_WITHIN = timedelta(hours=5)
# The time between two checks, by how long the account has been closed.
_LOOKS = (
    (timedelta(minutes=1), timedelta(seconds=3)),
    (timedelta(minutes=10), timedelta(seconds=15)),
)
_LATER_LOOKS = timedelta(minutes=1)


@transaction.atomic
def account_delete(*, account: Account) -> int:
    """Delete an account for good; return the number of calls in progress that are being ended.

    Its numbers, keys, sessions, notification webhook and cached greetings end now, its subscription
    after its calls (:func:`account_end`). Records of calls, usage and invoices stay. Raises 409
    ``operator`` for operators, who lose their rights in the admin first.
    """
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    if account.is_staff:
        raise ApiError(
            409,
            "operator",
            "This account belongs to an operator. Remove its operator rights in the admin first.",
        )
    account_close(account=account)
    _remove_registered(account)
    greetings_delete(account=account)
    calls = calls_request_hangup(account=account)
    subscriptions_end_soon(account=account)
    log.info("account_deleted", account_id=account.id, live_calls=calls)
    return calls


def account_end(*, account_id: str) -> None:
    """End the calls of a deleted account, then its subscription.

    While calls are still ending, this schedules itself again. It can be repeated after a crash at
    any point. Raises 502 ``payments_unavailable``.
    """
    account = Account.objects.filter(pk=account_id).exclude(closed_at=None).first()
    if account is None or account.closed_at is None:
        return
    now = timezone.now()
    _remove_registered(account)  # else a late number could never be registered by anybody
    live = calls_request_hangup(account=account)
    may_be_more = now < account.closed_at + SETTLED_AFTER
    is_waited_for = live and now < account.closed_at + CALLS_END_WITHIN
    if may_be_more or is_waited_for or not subscriptions_end(account_id, given_up=live):
        subscriptions_end_soon(account=account, at=_next_look(account.closed_at))


@transaction.atomic
def _remove_registered(account: Account) -> None:
    phone_numbers_remove_all(account=account)
    notification_settings_delete(account=account)


def _next_look(closed_at: datetime) -> datetime:
    now = timezone.now()
    return now + next(
        (wait for age, wait in _LOOKS if now < closed_at + age),
        _LATER_LOOKS,
    )
