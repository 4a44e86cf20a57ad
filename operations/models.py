"""Incidents of this installation, and what operators were told about them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Incident(models.Model):
    """A time in which a condition was met: see ``operations.incidents``."""

    key = models.CharField(max_length=40, help_text="The condition: see ``operations.conditions``.")
    severity = models.CharField(max_length=8)
    text = models.CharField(max_length=300, help_text="What was found last.")
    began_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="When the condition was last found to be met.")
    clear_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when the condition is not met, until it ends."
    )
    confirmed_at = models.DateTimeField(
        null=True, blank=True, help_text="When it had lasted long enough to tell operators."
    )
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["key"], condition=Q(ended_at=None), name="one_open_incident_of_key"
            )
        ]
        indexes = [
            models.Index(fields=["confirmed_at"], name="incident_by_confirmation"),
            models.Index(fields=["ended_at"], name="incident_by_end"),
        ]

    def __str__(self) -> str:
        return self.key


class Notice(models.Model):
    """A message about an incident, until it is sent. A sender claims it by postponing it."""

    class Event(models.TextChoices):
        BEGAN = "began"
        ENDED = "ended"

    class Channel(models.TextChoices):
        EMAIL = "email"
        WEBHOOK = "webhook"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="notices")
    event = models.CharField(max_length=5, choices=Event)
    channel = models.CharField(max_length=7, choices=Channel)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    sent_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=200, blank=True, help_text="Why the last attempt failed.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["incident", "event", "channel"], name="one_notice_of_event"
            )
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(sent_at=None), name="notice_due"),
        ]

    def __str__(self) -> str:
        return f"{self.event}, by {self.channel}"


class Look(models.Model):
    """When some conditions were last looked at, by any process: they take turns."""

    scope = models.CharField(primary_key=True, max_length=9)
    looked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.scope} at {self.looked_at}"
