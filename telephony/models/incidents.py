"""What fails in an account, and how its owner is told."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.models import Account


class Incident(models.Model):
    """Something that failed, and what the account's owner was told about it.

    There is one row from the first failure until things went well again, and one more for the next
    time. See ``telephony.incidents``.
    """

    class Kind(models.TextChoices):
        ENDPOINT = "endpoint", "an endpoint accepts no callbacks"
        GIVEN_UP = "given-up", "a callback was given up"
        CALLS = "calls", "calls of a number fail"
        MODEL = "model", "a model that calls use ends soon"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind)
    subject = models.CharField(
        max_length=400,
        help_text="An origin; for calls the number and the code; for a model also its end, and how "
        "many days before it the owner is told.",
    )
    facts = models.JSONField(default=dict, help_text="What the notice says; nothing secret.")
    began_at = models.DateTimeField()
    last_at = models.DateTimeField(help_text="The last failure that it includes.")
    told_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "kind", "subject"],
                condition=Q(ended_at=None),
                name="one_open_incident",
            )
        ]
        indexes = [
            models.Index(fields=["account", "told_at"], name="incident_told"),
            models.Index(fields=["account", "subject", "told_at"], name="incident_of_subject"),
            models.Index(fields=["last_at"], name="incident_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}"


class NotificationSettings(models.Model):
    """How an account's owner is told about incidents; without a row, by email.

    The webhook's URL grants whoever has it the right to post, so it is sealed.
    """

    PURPOSE = "notification-webhook"

    account = models.OneToOneField(
        Account, primary_key=True, on_delete=models.CASCADE, related_name="notification_settings"
    )
    emails_calls = models.BooleanField(default=True)
    emails_callbacks = models.BooleanField(default=True)
    sealed_webhook = models.BinaryField(null=True)
    webhook_posted_at = models.DateTimeField(
        null=True, blank=True, help_text="When it last accepted a message."
    )
    webhook_failed_at = models.DateTimeField(null=True, blank=True)
    webhook_problem = models.CharField(
        max_length=200, blank=True, help_text="Why the last message was not delivered."
    )

    def __str__(self) -> str:
        return f"Notifications of {self.account_id}"
