"""The processes of this installation, and the watch over those that hold calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import Case, Q, Value, When
from django.db.models.functions import Now

# Longer than a process that is up goes without a heartbeat. Calls do not wait for it: see
# ``telephony.engines``.
SILENT_AFTER = timedelta(seconds=20)
_IS_SILENT = Q(lost_at__isnull=False) | Q(last_seen_at__lt=Now() - SILENT_AFTER)


class ProcessQuerySet(models.QuerySet["Process"]):
    def with_state(self) -> Self:
        """Annotate with ``state``, one of :class:`Process.State`."""
        state = Case(
            When(_IS_SILENT, then=Value(Process.State.SILENT)),
            When(is_draining=True, then=Value(Process.State.DRAINING)),
            default=Value(Process.State.UP),
            output_field=models.CharField(),
        )
        return self.annotate(state=state)

    def heard(self) -> Self:
        """Processes that are not silent."""
        return self.exclude(_IS_SILENT)

    def engines(self) -> Self:
        """Engines that have not been taken for dead."""
        return self.filter(kind=Process.Kind.ENGINE, lost_at=None)


class Process(models.Model):
    """A process, from its start to its end: see ``telephony.processes``.

    One that ends as it should deletes its row. The row of one that does not stays for a while, so
    that operators see it. Times are the database's own, which all processes share.
    """

    class Kind(models.TextChoices):
        ENGINE = "engine"
        WORKER = "worker"
        WEB = "web"

    class State(models.TextChoices):
        UP = "up"
        DRAINING = "draining"
        SILENT = "silent"

    id = models.CharField(primary_key=True, max_length=25, editable=False)
    kind = models.CharField(max_length=6, choices=Kind, db_default=Kind.ENGINE.value)
    host = models.CharField(max_length=253, blank=True, db_default="")
    pid = models.PositiveBigIntegerField("PID", db_default=0)
    version = models.CharField(max_length=40, blank=True, db_default="")
    queues = models.CharField(
        max_length=200, blank=True, db_default="", help_text="The queues that a worker serves."
    )
    calls = models.PositiveIntegerField(
        db_default=0, help_text="The calls that an engine held at its last heartbeat."
    )
    started_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    is_draining = models.BooleanField(
        default=False, help_text="It finishes its calls or jobs and exits."
    )
    draining_since = models.DateTimeField(null=True, blank=True)
    lost_at = models.DateTimeField(
        null=True, blank=True, help_text="When an engine was taken for dead, and lost its calls."
    )

    objects = ProcessQuerySet.as_manager()

    class Meta:
        # Engines of the previous release write and read it under this name.
        db_table = "telephony_engine"
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.kind} {self.place}"

    @property
    def place(self) -> str:
        """Its host and PID, or its ID if an earlier release wrote neither."""
        return f"{self.host}:{self.pid}" if self.host else self.id


class Watch(models.Model):
    """The time since which the engines have been watched without a gap, by any process: one row."""

    since = models.DateTimeField()
    looked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"since {self.since}"
