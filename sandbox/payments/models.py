"""The stand-in's state in the database, so that web, worker and tests share one Stripe.

Times in Stripe's API are integers, seconds since 1970, on a customer's clock, which can be advanced
(``business.clock``). Datetimes use the real clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone


class StripeObjectQuerySet(models.QuerySet["StripeObject"]):
    def of(self, kind: str) -> Self:
        return self.filter(kind=kind, is_deleted=False)

    def having(self, fields: Mapping[str, Any]) -> Self:
        """Filter by values of fields in the body."""
        return self.filter(**{f"body__{name}": value for name, value in fields.items()})


class StripeObject(models.Model):
    """Any object of Stripe's API, as the API returns it."""

    serial = models.BigAutoField(primary_key=True)
    id = models.CharField(unique=True, max_length=255)
    kind = models.CharField(max_length=60, help_text="What Stripe calls ``object``.")
    customer_id = models.CharField(max_length=255, blank=True, help_text="On whose clock it is.")
    body = models.JSONField()
    hidden = models.JSONField(default=dict, help_text="What Stripe knows and does not tell.")
    due_at = models.BigIntegerField(null=True, help_text="When time does something to it.")
    is_deleted = models.BooleanField(default=False)

    objects = StripeObjectQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["kind", "-serial"], name="sandbox_by_kind"),
            models.Index(fields=["customer_id", "kind", "-serial"], name="sandbox_by_customer"),
            models.Index(
                fields=["due_at"], condition=Q(due_at__isnull=False), name="sandbox_by_due_time"
            ),
        ]

    def __str__(self) -> str:
        return self.id

    def __getitem__(self, field: str) -> Any:
        """Return a field of the body."""
        return self.body[field]


class Steering(models.Model):
    """The simulation settings of one customer."""

    class DunningEnd(models.TextChoices):
        CANCELED = "canceled", "cancel the subscription"
        UNPAID = "unpaid", "leave it unpaid"
        PAST_DUE = "past_due", "leave it past due"

    customer_id = models.CharField(primary_key=True, max_length=255)
    ahead_s = models.BigIntegerField(
        default=0, help_text="How far its clock is ahead of real time."
    )
    next_charge = models.CharField(
        max_length=40, blank=True, help_text="Why its next charge is declined, if it is."
    )
    dunning_end = models.CharField(
        max_length=8,
        choices=DunningEnd,
        default=DunningEnd.CANCELED,
        help_text="After all retries.",
    )

    def __str__(self) -> str:
        return self.customer_id


class MeterReading(models.Model):
    """An accepted meter event."""

    identifier = models.CharField(max_length=100)
    meter_id = models.CharField(max_length=255)
    customer_id = models.CharField(max_length=255)
    value = models.DecimalField(max_digits=24, decimal_places=12)
    timestamp = models.BigIntegerField()
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [
            models.Index(fields=["meter_id", "identifier"], name="sandbox_reading_identifier"),
            models.Index(fields=["meter_id", "customer_id", "timestamp"], name="sandbox_readings"),
        ]

    def __str__(self) -> str:
        return self.identifier


class KeptAnswer(models.Model):
    """The response to a request with an idempotency key."""

    key = models.CharField(primary_key=True, max_length=255)
    request_id = models.CharField(max_length=40)
    digest = models.CharField(max_length=64, help_text="Of method, path and parameters.")
    status = models.PositiveSmallIntegerField()
    body = models.TextField()
    answered_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.key


class Delivery(models.Model):
    """An event to be delivered to an endpoint."""

    class State(models.TextChoices):
        HELD = "held"
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed", "given up"
        DROPPED = "dropped"

    event = models.ForeignKey(StripeObject, on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(StripeObject, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now)
    outcome = models.CharField(max_length=200, blank=True, help_text="Of the last attempt.")
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(state="pending"), name="sandbox_delivery_due"
            )
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.endpoint_id}"


class DeliveryRule(models.Model):
    """The rule for delivering events of a type, or of all others (``*``)."""

    class Order(models.TextChoices):
        OLDEST = "oldest", "oldest first"
        NEWEST = "newest", "newest first"
        SHUFFLED = "shuffled"

    event_type = models.CharField(primary_key=True, max_length=100)
    is_held = models.BooleanField(default=False)
    copies = models.PositiveSmallIntegerField(default=1, help_text="0 drops them.")
    delay_s = models.PositiveIntegerField(default=0)
    order = models.CharField(max_length=8, choices=Order, default=Order.OLDEST)

    def __str__(self) -> str:
        return self.event_type


class Fault(models.Model):
    """A simulated failure of Stripe."""

    class Kind(models.TextChoices):
        UNREACHABLE = "unreachable", "cannot be reached"
        LOST = "lost", "does as asked, and the answer is lost"
        BROKEN = "broken", "500, an error at Stripe's"
        BUSY = "busy", "429, too many requests"

    kind = models.CharField(max_length=11, choices=Kind)
    method = models.CharField(max_length=6, blank=True)
    path = models.CharField(max_length=255, blank=True, help_text="How the path begins.")
    times_left = models.PositiveIntegerField(null=True, help_text="Until it is removed, if empty.")

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.method} {self.path}"
