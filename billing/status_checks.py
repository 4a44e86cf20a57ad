"""Keeping ``Account.status`` what Stripe's subscriptions make of it.

A mark puts an account's status in doubt; a job asks Stripe for the truth, without holding anything
in the database meanwhile, and applies it in one transaction. What an event says is never believed,
so that events may come in any order, twice or never.
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

# Causes of ours: what they find is what a webhook should have told.
RECONCILIATION = "reconciliation"
NIGHTLY = "nightly"

# Accounts in between are looked at every quarter of an hour, so many at most, spread over it.
UNSETTLED_AT_MOST = 500
# A mark that is younger has its job still.
UNDER_WAY = timedelta(minutes=5)
# A check is two requests to Stripe, which allows a hundred a second.
PACE = timedelta(milliseconds=200)
PAGE_SIZE = 200
# Stripe's checkout pages live for a day.
CHECKOUT_MAY_BE_PAID_FOR = timedelta(hours=25)


@dataclass(frozen=True, slots=True)
class Question:
    """What a check goes by: the customer, and the marks that its answer settles."""

    account_id: str
    customer_id: str
    marks: int


@transaction.atomic
def status_mark(*, account_id: str, cause: str, at: datetime | None = None) -> None:
    """Have an account's status checked, at once or at a time; it must have a Stripe customer."""
    StatusCheck.objects.filter(account_id=account_id).mark(cause)
    defer(TASK, at=at, account_id=account_id)


@contextmanager
def asking_about(customer: StripeCustomer) -> Iterator[None]:
    """Ask Stripe for something of a customer's inside of this; raise 502 ``payments_unavailable``.

    A customer that is missing at Stripe was deleted, or is one of another Stripe account: a check
    tells, and until then it is as if Stripe were down.
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
    """Ask Stripe and apply what it says, if the account's status is in doubt.

    Raises 502 ``payments_unavailable``: the marks stay, and it can be done again.
    """
    question = question_of(account_id)
    if question is None:
        return
    try:
        snapshot = fetch(question.customer_id)
    except stripe.InvalidRequestError as error:
        if not is_missing(error):
            raise
        # Not deleted, but unknown: the key is another Stripe account's. Nobody is cut off for that.
        log.error("stripe_customer_unknown", account_id=account_id)
        return
    if status_apply(question, snapshot) and (doubles := doubles_of(snapshot.subscription_data)):
        for double in doubles:
            double_checkout_undo(double)
        status_mark(account_id=account_id, cause="double checkout")


def question_of(account_id: str) -> Question | None:
    """Return what a check has to ask, before it asks; None if nothing is in doubt."""
    check = (
        StatusCheck.objects.unsettled()
        .filter(account_id=account_id)
        .values_list("account_id", "account__stripe_customer__customer_id", "marks")
        .first()
    )
    return Question(*check) if check else None


@transaction.atomic
def status_apply(question: Question, snapshot: Snapshot) -> bool:
    """Make the account what Stripe says; False if an answer that was asked for later is applied.

    The suspension by an operator is another flag, and is not touched. With doubles there is more to
    do, so that the marks stay.
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
    """Check the accounts in between, those first that were marked the longest ago.

    They are the ones whose check failed or was lost, those that owe money, and those that may be
    paying right now.
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
    """Check a page of all customers, from that account id on, then the next page, and so on."""
    page = StatusCheck.objects.filter(account_id__gt=after).order_by("account_id")[:PAGE_SIZE]
    account_ids = _mark_spread(page, NIGHTLY)
    if len(account_ids) == PAGE_SIZE:
        at = timezone.now() + PACE * PAGE_SIZE
        defer(PAGE_TASK, at=at, only_one=PAGE_TASK, after=account_ids[-1])


def _mark_spread(checks: QuerySet[StatusCheck], cause: str) -> list[str]:
    """Mark each, and have it checked at its time; return the accounts' ids."""
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
