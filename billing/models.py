"""Stripe customers, checks of account status, and meter events, besides dj-stripe's mirror.

Stripe is the source of truth for subscriptions. Our own ledger is the source of truth for minutes:
a meter event is stored here before it is sent, and kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from core.sealing import CannotUnseal, unseal
from usage.models import UsageRecord


class StripeCustomer(models.Model):
    """An account's Stripe customer, and its last checkout.

    An account keeps its customer, and gets a new one only after Stripe deleted it.
    """

    account = models.OneToOneField(
        Account, primary_key=True, on_delete=models.PROTECT, related_name="stripe_customer"
    )
    customer_id = models.CharField(max_length=255, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(
        null=True, blank=True, help_text="When we learned that it was deleted in Stripe."
    )
    checkout_number = models.PositiveIntegerField(
        default=0, help_text="The number of checkouts so far, for the next idempotency key."
    )
    checkout_id = models.CharField(max_length=255, blank=True)
    checkout_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.customer_id


class StatusCheckQuerySet(OwnedQuerySet["StatusCheck"]):
    def unsettled(self) -> Self:
        return self.filter(marks__gt=F("settled"))

    def mark(self, cause: str) -> int:
        """Mark the status as unconfirmed; keep the cause of the first mark until it is settled."""
        is_first = When(marks=F("settled"), then=Value(cause[:100]))
        return self.update(
            marks=F("marks") + 1, marked_at=timezone.now(), cause=Case(is_first, default=F("cause"))
        )


class StatusCheck(models.Model):
    """The number of marks that an account's status is unconfirmed, and of those settled.

    A webhook or the schedule adds a mark. A check settles the marks that it saw before it asked
    Stripe: a mark added meanwhile stays, and a response older than one already applied changes
    nothing. There is one row for each Stripe customer.
    """

    account = models.OneToOneField(Account, primary_key=True, on_delete=models.CASCADE)
    marks = models.PositiveBigIntegerField(default=0)
    settled = models.PositiveBigIntegerField(default=0)
    cause = models.CharField(max_length=100, blank=True)
    marked_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    objects = StatusCheckQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["marked_at"], condition=Q(marks__gt=F("settled")), name="status_unsettled"
            )
        ]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.cause}"


class StatusChange(models.Model):
    """A change of an account's billing status, and its cause."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="status_changes")
    at = models.DateTimeField(default=timezone.now)
    before = models.CharField(max_length=9)
    after = models.CharField(max_length=9)
    cause = models.CharField(max_length=100)
    subscription_id = models.CharField(max_length=255, blank=True)
    subscription_status = models.CharField(max_length=32, blank=True)

    class Meta:
        indexes = [models.Index(fields=["account", "-at"], name="status_change_by_account")]

    def __str__(self) -> str:
        return f"{self.before} → {self.after} ({self.cause})"


class PlanPart(models.Model):
    """A part of the plan that ``setup_stripe`` created in Stripe, kept to avoid lookups."""

    PURPOSE = "stripe-webhook"  # of what is sealed here

    class Name(models.TextChoices):
        BASE_PRICE = "base-price", "price of a month"
        MINUTE_PRICE = "minute-price", "price of a minute"
        METER = "meter"
        PORTAL = "portal", "portal configuration"
        WEBHOOK = "webhook", "endpoint for events"
        METER_WEBHOOK = "meter-webhook", "endpoint for the meter's error reports"

    name = models.CharField(primary_key=True, max_length=13, choices=Name)
    stripe_id = models.CharField(max_length=255)
    cents = models.DecimalField(
        null=True, max_digits=16, decimal_places=4, help_text="The amount of a price."
    )
    sealed_secret = models.BinaryField(null=True, help_text="The signing secret of an endpoint.")

    def __str__(self) -> str:
        return self.get_name_display()

    @property
    def secret(self) -> str | None:
        """The signing secret in plain text; None if there is none, or its key is gone."""
        try:
            return unseal(self.sealed_secret or b"", purpose=self.PURPOSE).decode()
        except CannotUnseal:
            return None


class MeterEventQuerySet(OwnedQuerySet["MeterEvent"]):
    def unsent(self) -> Self:
        return self.filter(state=MeterEvent.State.PENDING)

    def due(self, now: datetime) -> Self:
        """Events to send: neither postponed nor claimed, longest waiting first."""
        return self.unsent().filter(next_attempt_at__lte=now).order_by("next_attempt_at")

    def within(self, start: datetime, end: datetime) -> Self:
        return self.filter(happened_at__gte=start, happened_at__lt=end)


class MeterEvent(models.Model):
    """The minutes of one usage record, to be reported to Stripe's meter.

    Its identifier is the record's, usually the CallSid. However often it is sent, Stripe counts it
    once a day, and we count it once in all. A sender claims it by postponing the next attempt.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        TOO_OLD = "too-old", "too old for Stripe, bill by hand"
        REFUSED = "refused", "rejected by Stripe"

    identifier = models.CharField(primary_key=True, max_length=40)
    usage_record = models.OneToOneField(
        UsageRecord, on_delete=models.PROTECT, related_name="meter_event"
    )
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="meter_events", db_index=False
    )
    minutes = models.PositiveIntegerField()
    happened_at = models.DateTimeField(
        help_text="When Stripe counts it: the call's end, or a time that can still be billed."
    )
    state = models.CharField(max_length=7, choices=State, default=State.PENDING)
    attempts = models.PositiveIntegerField(default=0, help_text="Attempts that got a response.")
    first_attempt_at = models.DateTimeField(
        null=True, blank=True, help_text="The first time it may have reached Stripe."
    )
    next_attempt_at = models.DateTimeField(default=timezone.now)
    last_error = models.CharField(max_length=500, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    objects = MeterEventQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["account", "happened_at"], name="meter_event_by_account"),
            models.Index(
                fields=["next_attempt_at"], condition=Q(state="pending"), name="meter_event_due"
            ),
            models.Index(
                fields=["state", "happened_at"],
                condition=~Q(state__in=["pending", "sent"]),
                name="meter_event_to_look_at",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.identifier}: {self.minutes} min"


class MeterProblem(models.Model):
    """A problem with metering that needs an operator."""

    class Kind(models.TextChoices):
        ERROR_REPORT = "error-report", "Stripe reported invalid events"
        DIFFERENCE = "difference", "our sum differs from Stripe's"
        AFTER_CANCELLATION = "after-cancellation", "usage after the subscription ended"
        REFUSED = "refused", "Stripe rejected an event"
        TOO_OLD = "too-old", "an event is too old for Stripe"

    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.CASCADE, related_name="meter_problems"
    )
    kind = models.CharField(max_length=18, choices=Kind)
    key = models.CharField(
        max_length=255, unique=True, help_text="Identifies the problem, to report it once."
    )
    detail = models.JSONField(default=dict, blank=True)
    found_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["-found_at"], condition=Q(resolved_at=None), name="problem_open")
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.key}"
