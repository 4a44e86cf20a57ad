"""An account's spending on minutes this month, and its spending limit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.audit import Action, audit
from accounts.mails import mail_queue
from accounts.models import Account
from usage.models import DailyUsage, SpendingLimit, TotalUsage

LEAST_LIMIT = Decimal("0.01")
MOST_LIMIT = Decimal(1_000_000)

# Percentages of the limit at which the account gets an email.
MARKS = (50, 80, 100)
MAIL = "spending_limit"

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Spending:
    """An account's minutes of a UTC month, and its limit (USD; None for no limit)."""

    limit: Decimal | None
    minutes: int

    @property
    def spent(self) -> Decimal:
        """Minutes times rate, in USD, without the base fee."""
        return self.minutes * settings.PER_MINUTE_RATE

    @property
    def is_reached(self) -> bool:
        """True if new calls are rejected. Calls in progress do not count yet."""
        return self.limit is not None and self.spent >= self.limit

    @property
    def percent(self) -> int:
        """The share of the limit that is spent, in whole percent; 0 without a limit."""
        if self.limit is None:
            return 0
        return int((self.spent / self.limit * 100).to_integral_value(ROUND_DOWN))

    @property
    def mark(self) -> int:
        """The highest of :data:`MARKS` that is reached; 0 for none."""
        return max((mark for mark in MARKS if self.percent >= mark), default=0)


def spending_of(account: Account) -> Spending:
    """Return the account's spending in the current UTC month, with one query on indexes."""
    month = (
        DailyUsage.objects.month_of(timezone.now().astimezone(UTC).date())
        .filter(account=OuterRef("pk"))
        .order_by()
        .values("account")
        .annotate(sum=Sum("minutes"))
        .values("sum")
    )
    limit, minutes = (
        Account.objects.filter(pk=account.pk)
        .values_list("spending_limit__amount", Coalesce(Subquery(month), 0))
        .get()
    )
    return Spending(limit, minutes)


def limit_problem(amount: Decimal) -> str | None:
    """Return why an amount (USD) cannot be a limit, in one sentence, or None."""
    in_bounds = amount.is_finite() and LEAST_LIMIT <= amount <= MOST_LIMIT
    if in_bounds and amount == amount.quantize(_CENT):
        return None
    return f"Use whole cents, from {LEAST_LIMIT} to {MOST_LIMIT}."


@transaction.atomic
def spending_limit_set(*, account: Account, amount: Decimal | None) -> Spending:
    """Set the limit (USD a month), or remove it; return the spending and the limit now.

    No email is sent for marks that the new limit has already reached: the page shows them. Raises
    ``ValidationError`` at ``amount``.
    """
    if amount is not None and (problem := limit_problem(amount)):
        raise ValidationError({"amount": [problem]})
    month = timezone.now().astimezone(UTC).date().replace(day=1)
    defaults = {"amount": amount, "month": month}
    # Wait for calls that are just ending, whose totals are locked, so that none is missed.
    TotalUsage.objects.select_for_update().filter(account=account).first()
    limit, is_new = SpendingLimit.objects.select_for_update().get_or_create(
        account=account, defaults=defaults
    )
    spending = Spending(amount, _minutes(account.pk, month))
    if not is_new and (limit.month, limit.amount) == (month, amount):
        return spending  # the emails sent so far stay as they are
    _audit_change(account, None if is_new else limit.amount, amount)
    limit.amount, limit.month, limit.told_percent = amount, month, spending.mark
    limit.save()
    return spending


def spending_tell(*, account_id: str, day: date) -> None:
    """Queue an email if the month's minutes have reached a mark for which none was sent yet.

    Call it in the transaction that added to the totals, after that: their lock lets in one of
    several ending calls at a time. If a call passes several marks, the email names the highest.
    """
    limit = (
        SpendingLimit.objects.select_for_update(of=["self"])
        .select_related("account")
        .filter(account_id=account_id, amount__isnull=False)
        .first()
    )
    month = day.replace(day=1)
    if limit is None or month < limit.month:  # a call of last month, recorded late
        return
    spending = Spending(limit.amount, _minutes(account_id, month))
    told = limit.told_percent if limit.month == month else 0
    if spending.mark <= told:
        return
    limit.month, limit.told_percent = month, spending.mark
    limit.save(update_fields=["month", "told_percent"])
    mail_queue(
        account=limit.account,
        name=MAIL,
        mark=spending.mark,
        limit=str(limit.amount),
        spent=str(spending.spent.quantize(_CENT, ROUND_HALF_UP)),
        month=f"{month:%B %Y}",
    )


def _audit_change(account: Account, before: Decimal | None, after: Decimal | None) -> None:
    if before == after:
        return
    was, is_now = ("none" if each is None else f"{each:.2f} USD" for each in (before, after))
    audit(account=account, action=Action.SPENDING_LIMIT_CHANGED, before=was, after=is_now)


def _minutes(account_id: str, day: date) -> int:
    days = DailyUsage.objects.filter(account_id=account_id).month_of(day)
    minutes: int = days.aggregate(sum=Sum("minutes", default=0))["sum"]
    return minutes
