"""Usage: a record for each call, and stored totals."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from core.api import as_number
from core.ids import new_id

# The fields that are summed over the parts of a call.
SUMMED = ("duration_seconds", "minutes", "platform_cost", "twilio_cost", "openai_cost")


class UsageRecordQuerySet(OwnedQuerySet["UsageRecord"]):
    def newest_first(self) -> Self:
        return self.order_by("-created_at", "-id")

    def further_parts(self) -> Self:
        """Return the second and later records of calls; there are few."""
        return self.filter(part__gt=1)

    def by_call(self, call_sids: Iterable[str]) -> dict[str, UsageRecord]:
        """Return the sum of each call's records by CallSid, as unsaved records."""
        whole: dict[str, UsageRecord] = {}
        for record in self.filter(call_sid__in=call_sids).order_by("part"):
            known = whole.get(record.call_sid)
            whole[record.call_sid] = record if known is None else known.plus(record)
        return whole


class UsageRecord(models.Model):
    """One ended call. Written once, in the transaction that ends the call, and never changed.

    A call that was taken for lost, and charged, while it went on has another record for what came
    after: its second part.
    """

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="usage_records", db_index=False
    )
    call_sid = models.CharField(max_length=34)
    part = models.PositiveSmallIntegerField(default=1, db_default=1)
    direction = models.CharField(max_length=8)
    caller_phone = models.CharField(max_length=64)
    called_number = models.CharField(max_length=64)
    duration_seconds = models.PositiveIntegerField(help_text="How long the caller was connected.")
    minutes = models.PositiveIntegerField(
        help_text="The billed minutes: from when the model was ready, rounded up to whole minutes."
    )
    platform_cost = models.DecimalField(max_digits=12, decimal_places=6)
    twilio_cost = models.DecimalField(max_digits=12, decimal_places=6)
    openai_cost = models.DecimalField(max_digits=12, decimal_places=6)
    created_at = models.DateTimeField(default=timezone.now)

    objects = UsageRecordQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["account", "created_at", "id"], name="usage_record_by_account"),
            models.Index(fields=["id"], condition=Q(minutes__gt=0), name="usage_record_billable"),
            models.Index(fields=["account"], condition=Q(part__gt=1), name="usage_further_part"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["call_sid", "part"], name="usage_record_of_call")
        ]

    def __str__(self) -> str:
        return f"{self.call_sid}: {self.minutes} min"

    @property
    def identifier(self) -> str:
        """A unique identifier: the CallSid, with a suffix for later parts."""
        return self.call_sid if self.part == 1 else f"{self.call_sid}.{self.part}"

    def plus(self, more: UsageRecord) -> UsageRecord:
        """Return the unsaved sum of this record and another part of the call."""
        sums = {name: getattr(self, name) + getattr(more, name) for name in SUMMED}
        facts = {each.attname: getattr(more, each.attname) for each in self._meta.concrete_fields}
        return UsageRecord(**facts | sums)

    @property
    def total_cost(self) -> Decimal:
        return self.platform_cost + self.twilio_cost + self.openai_cost

    @property
    def cost_breakdown(self) -> dict[str, int | float]:
        """The costs in USD, for the API and callbacks. Twilio's and OpenAI's are estimates."""
        return {
            "platformCost": as_number(self.platform_cost),
            "twilioCost": as_number(self.twilio_cost),
            "openaiCost": as_number(self.openai_cost),
            "totalCost": as_number(self.total_cost),
        }


class DailyUsageQuerySet(OwnedQuerySet["DailyUsage"]):
    def since(self, day: date) -> Self:
        return self.filter(day__gte=day).order_by("day")

    def month_of(self, day: date) -> Self:
        """Return the days of that day's month: at most 31 rows of an account."""
        _, last = monthrange(day.year, day.month)
        return self.filter(day__range=(day.replace(day=1), day.replace(day=last)))


class DailyUsage(models.Model):
    """An account's calls and minutes of one UTC day."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="daily_usage")
    day = models.DateField()
    calls = models.PositiveIntegerField(default=0)
    minutes = models.PositiveIntegerField(default=0)

    objects = DailyUsageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "day"], name="daily_usage_unique")
        ]
        verbose_name_plural = "daily usage"

    def __str__(self) -> str:
        return f"{self.account_id} {self.day}"


class TotalUsageQuerySet(models.QuerySet["TotalUsage"]):
    def total_of(self, account: Account) -> TotalUsage:
        """Return the account's row, or an unsaved one with zeros."""
        return self.filter(account=account).first() or TotalUsage(account=account)


class TotalUsage(models.Model):
    """An account's calls and minutes of all time."""

    account = models.OneToOneField(
        Account, primary_key=True, on_delete=models.PROTECT, related_name="total_usage"
    )
    calls = models.PositiveBigIntegerField(default=0)
    minutes = models.PositiveBigIntegerField(default=0)

    objects = TotalUsageQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "total usage"

    def __str__(self) -> str:
        return str(self.account_id)


class SpendingLimit(models.Model):
    """An account's spending limit for a UTC month, and the last email about it.

    It holds for our own minutes, not for the base. An account without a row has no limit.
    """

    account = models.OneToOneField(
        Account, primary_key=True, on_delete=models.CASCADE, related_name="spending_limit"
    )
    amount = models.DecimalField(
        max_digits=9,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="In USD. Empty for no limit.",
    )
    month = models.DateField(help_text="The first day of the month of the last email.")
    told_percent = models.PositiveSmallIntegerField(
        default=0,
        help_text="The highest of 50, 80 and 100 that an email was sent for in that month.",
    )

    def __str__(self) -> str:
        return f"{self.account_id}: {self.amount}"
