"""What was used: one record a call, and the totals that are kept beside it."""

from __future__ import annotations

from decimal import Decimal
from typing import Self

from django.db import models
from django.utils import timezone

from accounts.models import Account
from config.ids import new_id


class UsageRecordQuerySet(models.QuerySet["UsageRecord"]):
    def of(self, account: Account) -> Self:
        return self.filter(account=account)


class UsageRecord(models.Model):
    """One ended call. Written once, in the transaction that ends the call, and never changed."""

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="usage_records")
    call_sid = models.CharField(max_length=34, unique=True)
    direction = models.CharField(max_length=8)
    caller_phone = models.CharField(max_length=64)
    called_number = models.CharField(max_length=64)
    duration_seconds = models.PositiveIntegerField()
    minutes = models.PositiveIntegerField(help_text="The duration, rounded up to whole minutes.")
    platform_cost = models.DecimalField(max_digits=12, decimal_places=6)
    twilio_cost = models.DecimalField(max_digits=12, decimal_places=6)
    openai_cost = models.DecimalField(max_digits=12, decimal_places=6)
    created_at = models.DateTimeField(default=timezone.now)

    objects = UsageRecordQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="usage_record_by_account")
        ]

    def __str__(self) -> str:
        return f"{self.call_sid}: {self.minutes} min"

    @property
    def total_cost(self) -> Decimal:
        return self.platform_cost + self.twilio_cost + self.openai_cost


class DailyUsage(models.Model):
    """An account's calls and minutes of one UTC day."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="daily_usage")
    day = models.DateField()
    calls = models.PositiveIntegerField(default=0)
    minutes = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "day"], name="daily_usage_unique")
        ]
        verbose_name_plural = "daily usage"

    def __str__(self) -> str:
        return f"{self.account_id} {self.day}"


class TotalUsage(models.Model):
    """An account's calls and minutes since it exists."""

    account = models.OneToOneField(
        Account, primary_key=True, on_delete=models.PROTECT, related_name="total_usage"
    )
    calls = models.PositiveBigIntegerField(default=0)
    minutes = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "total usage"

    def __str__(self) -> str:
        return str(self.account_id)
