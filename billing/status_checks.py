"""Keeps ``Account.status`` in step with the subscriptions in Stripe.

A mark makes an account's status unconfirmed. A job then fetches the subscriptions from Stripe,
without a lock or connection meanwhile, and applies them in one transaction. The contents of an
event are not used, so events may arrive in any order, twice or never.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import stripe
import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts.audit import Action, audit
from accounts.models import Account
from billing.customers import Snapshot, fetch, mirror_snapshot
from billing.duplicate_subscriptions import double_checkout_undo
from billing.models import StatusChange, StatusCheck, StripeCustomer
from billing.standing import Standing, doubles_of, standing_of
from billing.stripe_api import PaymentsUnavailable, asking, is_missing
from core.queue.jobs import defer
from core.sweeps import each_alone

log = structlog.get_logger(__name__)

TASK = "billing.tasks.check_status"
PAGE_TASK = "billing.tasks.check_page"

# Causes of the schedule: what these find, a webhook should have reported.
RECONCILIATION = "reconciliation"
NIGHTLY = "nightly"

# The most unsettled accounts that are checked every 15 minutes, spread over that time.
UNSETTLED_AT_MOST = 500
# The job of a younger mark is still pending.
UNDER_WAY = timedelta(minutes=5)
# A check makes two requests to Stripe, which allows a hundred a second.
PACE = timedelta(milliseconds=200)
PAGE_SIZE = 200
# Stripe's checkout pages are open for a day.
CHECKOUT_MAY_BE_PAID_FOR = timedelta(hours=25)


@dataclass(frozen=True, slots=True)
class Question:
    """The input of a check: the customer, and the marks that it settles."""

    account_id: str
    customer_id: str
    marks: int


@transaction.atomic
def status_mark(*, account_id: str, cause: str, at: datetime | None = None) -> None:
    """Mark an account's status and queue a check, now or at a time. It needs a Stripe customer."""
    StatusCheck.objects.filter(account_id=account_id).mark(cause)
    defer(TASK, at=at, account_id=account_id)


@contextmanager
def asking_about(customer: StripeCustomer) -> Iterator[None]:
    """Make requests about a customer inside; raise 502 ``payments_unavailable``.

    A customer that is missing in Stripe was deleted, or belongs to another Stripe account. A check
    finds out which; until then this acts as if Stripe were down.
    """
    try:
        with asking():
            yield
    except stripe.InvalidRequestError as error:
        if not is_missing(error):
            raise
        log.error("missing_at_stripe", account_id=customer.account_id, param=error.param)
        status_mark(account_id=customer.account_id, cause="missing at Stripe")
        raise PaymentsUnavailable from error


def status_check(account_id: str) -> None:
    """Check an account with Stripe if its status is unconfirmed.

    Raises 502 ``payments_unavailable``; the marks stay, so it can be repeated.
    """
    question = question_of(account_id)
    if question is None:
        return
    try:
        snapshot = fetch(question.customer_id)
    except stripe.InvalidRequestError as error:
        if not is_missing(error):
            raise
        # Unknown, not deleted: the key belongs to another Stripe account. That must suspend nobody.
        log.error("stripe_customer_unknown", account_id=account_id)
        return
    if status_apply(question, snapshot) and (doubles := doubles_of(snapshot.subscription_data)):
        for double in doubles:
            double_checkout_undo(double)
        status_mark(account_id=account_id, cause="double checkout")


def question_of(account_id: str) -> Question | None:
    """Return the input of a check; None if the status is settled."""
    check = (
        StatusCheck.objects.unsettled()
        .filter(account_id=account_id)
        .values_list("account_id", "account__stripe_customer__customer_id", "marks")
        .first()
    )
    return Question(*check) if check else None


@transaction.atomic
def status_apply(question: Question, snapshot: Snapshot) -> bool:
    """Apply a snapshot to the account; return False if a newer one was applied already.

    An operator's suspension is a separate flag and does not change. With duplicate subscriptions,
    more is to be done, so the marks stay.
    """
    check = StatusCheck.objects.select_for_update().get(account_id=question.account_id)
    customer = StripeCustomer.objects.get(account_id=question.account_id)
    if check.settled >= question.marks or customer.customer_id != question.customer_id:
        return False
    if snapshot.is_deleted and customer.deleted_at is None:
        customer.deleted_at = timezone.now()
        customer.save(update_fields=["deleted_at"])
    mirror_snapshot(snapshot)
    _change(question.account_id, standing_of(snapshot.subscription_data), check.cause)
    if not doubles_of(snapshot.subscription_data):
        check.settled, check.settled_at = question.marks, timezone.now()
        check.save(update_fields=["settled", "settled_at"])
    return True


def _change(account_id: str, standing: Standing, cause: str) -> None:
    account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
    before = account.status
    if before == standing.status:
        return
    account.status = standing.status
    account.save(update_fields=["status"])
    StatusChange.objects.create(
        account=account,
        before=before,
        after=standing.status,
        cause=cause,
        subscription_id=standing.subscription_id,
        subscription_status=standing.subscription_status,
    )
    audit(account=account, action=Action.STATUS_CHANGED, before=before, after=standing.status)
    is_drift = cause in (RECONCILIATION, NIGHTLY)
    (log.warning if is_drift else log.info)(
        "status_drift" if is_drift else "status_changed",
        account_id=account_id,
        before=before,
        after=standing.status,
        cause=cause,
    )


def unsettled_mark() -> None:
    """Check accounts that may change, those marked longest ago first.

    These are accounts whose check failed or was lost, that owe money, or that may be paying now.
    """
    now = timezone.now()
    left_over = Q(marks__gt=F("settled"))
    owing = Q(account__status=Account.Status.SUSPENDED)
    paying = Q(
        account__status=Account.Status.INACTIVE,
        account__stripe_customer__checkout_at__gt=now - CHECKOUT_MAY_BE_PAID_FOR,
    )
    quiet = Q(marked_at=None) | Q(marked_at__lt=now - UNDER_WAY)
    checks = StatusCheck.objects.filter(quiet, left_over | owing | paying)
    longest_ago = F("marked_at").asc(nulls_first=True)
    _mark_spread(checks.order_by(longest_ago)[:UNSETTLED_AT_MOST], RECONCILIATION)


def page_mark(after: str = "") -> None:
    """Check a page of customers after that account id, and queue the next page."""
    page = StatusCheck.objects.filter(account_id__gt=after).order_by("account_id")[:PAGE_SIZE]
    account_ids = _mark_spread(page, NIGHTLY)
    if len(account_ids) == PAGE_SIZE:
        at = timezone.now() + PACE * PAGE_SIZE
        defer(PAGE_TASK, at=at, only_one=PAGE_TASK, after=account_ids[-1])


def _mark_spread(checks: QuerySet[StatusCheck], cause: str) -> list[str]:
    """Mark each and queue its check at its own time; return the account ids."""
    account_ids = list(checks.values_list("account_id", flat=True))
    now = timezone.now()
    times = {account_id: now + PACE * number for number, account_id in enumerate(account_ids)}
    each_alone(
        account_ids,
        lambda id: status_mark(account_id=id, cause=cause, at=times[id]),
        what="status check of an account",
        back_off=lambda id: StatusCheck.objects.filter(pk=id).update(marked_at=now),
    )
    return account_ids
