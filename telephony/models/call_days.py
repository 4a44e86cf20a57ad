"""Sums of calls."""

from __future__ import annotations

from datetime import date
from typing import Self, get_args

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from telephony.engine.codes import OutcomeGroup


class CallDay(models.Model):
    """An account's ended calls of one day, by outcome, and their latencies: see ``call_days``."""

    OUTCOMES = get_args(OutcomeGroup)

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField(help_text="The day in the account's time zone on which they began.")
    completed = models.IntegerField(default=0)
    unanswered = models.IntegerField(default=0)
    rejected = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    on_call_start = ArrayField(models.IntegerField(), help_text="Latencies of onCallStart.")
    turns = ArrayField(models.IntegerField(), help_text="Latencies of the agent's turns.")

    objects = OwnedQuerySet["CallDay"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "day"], name="call_day_of_account")
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.day}"

    @classmethod
    def empty(cls, account: Account, day: date) -> Self:
        """Return an unsaved day without calls."""
        return cls(account=account, day=day, on_call_start=[], turns=[])

    @property
    def calls(self) -> int:
        return self.completed + self.unanswered + self.rejected + self.failed


class NumberDay(models.Model):
    """The latencies of a day's turns in the calls of one number: see ``call_days``."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField(help_text="The day in the account's time zone on which they began.")
    number = models.CharField(max_length=64, help_text="The account's own number of these calls.")
    responses = models.IntegerField(help_text="How many turns were measured.")
    turns = ArrayField(models.IntegerField(), help_text="Latencies of the agent's turns.")

    objects = OwnedQuerySet["NumberDay"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "day", "number"], name="number_day_of_account"
            )
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.day}"
