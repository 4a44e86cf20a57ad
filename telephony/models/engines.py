"""The processes that hold calls."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Engine(models.Model):
    """A process that holds calls, from its start to its end: see ``telephony.engines``.

    Its times are the database's own, which all processes share.
    """

    id = models.CharField(primary_key=True, max_length=25, editable=False)
    started_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    is_draining = models.BooleanField(default=False, help_text="It finishes its calls and exits.")

    def __str__(self) -> str:
        return self.id


class Watch(models.Model):
    """The time since which the engines have been watched without a gap, by any process: one row."""

    since = models.DateTimeField()
    looked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"since {self.since}"
