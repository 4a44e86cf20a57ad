"""Greetings that a model has said, for the next calls of the same account."""

from __future__ import annotations

from django.db import models

from accounts.models import Account
from accounts.ownership import OwnedQuerySet


class CachedGreeting(models.Model):
    """The audio and transcript of a greeting, sealed: see ``telephony.greetings``.

    The table is unlogged: neither a backup nor a replica contains it, and a crash empties it.
    """

    PURPOSE = "greeting"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    digest = models.CharField(
        max_length=64, help_text="A keyed hash of the text and of what it is spoken with."
    )
    sealed = models.BinaryField()
    expires_at = models.DateTimeField(db_index=True)

    objects = OwnedQuerySet["CachedGreeting"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "digest"], name="cached_greeting_of_account")
        ]

    def __str__(self) -> str:
        return f"Greeting of {self.account_id}"
