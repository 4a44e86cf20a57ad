"""Callbacks to customers' backends, and how their servers responded."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import Case, F, Func, OuterRef, Prefetch, Q, Subquery, Value, When
from django.db.models.functions import Lower, Now
from django.utils import timezone

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from core.ids import new_id
from telephony.models.calls import Call


def _origin_in(url: F | OuterRef) -> Lower:
    origin = Func(url, Value(r"^([^/]*//[^/?#]*).*$"), Value(r"\1"), function="regexp_replace")
    return Lower(
        Func(
            origin,
            Value(r"^(https://.*?):(?:0*443)?$|^(http://.*?):(?:0*80)?$"),
            Value(r"\1\2"),
            function="regexp_replace",
            output_field=models.CharField(),
        )
    )


# The server that a callback goes to: scheme, host and port, without the scheme's own port, as
# `telephony.callbacks.origins.shown` writes it. Each call can have its own URL, so only an
# expression finds the callbacks of a server, and indexes contain it.
ORIGIN = _origin_in(F("url"))


# The progress of a pending callback in SQL: see ``CallbackDelivery.progress``.
PROGRESS = Case(
    When(Q(attempts__gt=0) | Q(held_by__isnull=False), then=Value("failing")),
    default=Value("waiting"),
    output_field=models.CharField(),
)


class CallbackDeliveryQuerySet(OwnedQuerySet["CallbackDelivery"]):
    def under_way(self) -> Self:
        """Deliveries that a worker is sending now."""
        pending = self.filter(state=CallbackDelivery.State.PENDING)
        return pending.filter(claimed_until__isnull=False, claimed_until__gt=Now())

    def ready(self) -> Self:
        """Deliveries that may be sent now: due, not being sent, and not held back."""
        return self.filter(
            Q(claimed_until=None) | Q(claimed_until__lte=Now()),
            state=CallbackDelivery.State.PENDING,
            held_by=None,
            due_at__lte=Now(),
        )

    def to_endpoint(self, origin: str) -> Self:
        """Deliveries to a server; ``origin`` as in :data:`ORIGIN`."""
        return self.alias(goes_to=ORIGIN).filter(goes_to=origin)

    def waiting_for(self, origin: str | Lower) -> Self:
        """Deliveries that wait for a server, those that are due first, first.

        A range, which keeps the origin in the order: only ``delivery_waiting_for`` has that order.
        With an equation, PostgreSQL may take an index by time alone, and read all that wait.
        """
        pending = self.filter(state=CallbackDelivery.State.PENDING).alias(goes_to=ORIGIN)
        return pending.filter(goes_to__gte=origin, goes_to__lte=origin).order_by(
            "goes_to", "due_at"
        )

    def that_are(self, progress: str) -> Self:
        """Deliveries with this ``progress``, each kind from an index."""
        if progress in CallbackDelivery.State.values:
            return self.filter(state=progress)
        pending = self.filter(state=CallbackDelivery.State.PENDING)
        return pending.alias(goes=PROGRESS).filter(goes=progress)

    def with_attempts(self) -> Self:
        """Add the result of each attempt, without the responses."""
        with_endpoint = self.defer("sealed_body").select_related("held_by")
        return with_endpoint.prefetch_related(ATTEMPTS_IN_ORDER)


# Callbacks that wait for a server are counted up to this.
COUNTED_TO = 1000


class CallbackEndpointQuerySet(OwnedQuerySet["CallbackEndpoint"]):
    def failing(self) -> Self:
        return self.filter(failed_attempts__gt=0)

    def with_waiting(self) -> Self:
        """Add ``waiting``, how many callbacks wait for it, and when the first is ``next_due``.

        ``waiting`` is at most ``COUNTED_TO + 1``, for "more", so that it costs the same however
        many wait.
        """
        theirs = CallbackDelivery.objects.filter(account=OuterRef("account"))
        in_order = theirs.waiting_for(_origin_in(OuterRef("origin"))).values("due_at")
        return self.annotate(
            waiting=Func(
                ArraySubquery(in_order[: COUNTED_TO + 1]),
                function="cardinality",
                output_field=models.IntegerField(),
            ),
            next_due=Subquery(in_order[:1]),
        )


class CallbackEndpoint(models.Model):
    """A server that an account's callbacks go to, while it accepts none of them.

    It is identified by its origin, ``https://host:port``: a server hangs or is unreachable whatever
    the path, and each call can have its own URL. The row is deleted after the first 2xx response,
    once its held callbacks are released.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    origin = models.CharField(max_length=300)
    failures = models.PositiveIntegerField(
        default=0, help_text="Consecutive attempts without a response."
    )
    probe_at = models.DateTimeField(
        db_default=Now(), help_text="When one callback may be tried again, if it keeps failing."
    )
    failing_since = models.DateTimeField(
        db_default=Now(), help_text="The first attempt that failed after the last 2xx response."
    )
    failed_at = models.DateTimeField(
        db_default=Now(), db_index=True, help_text="The last attempt that failed."
    )
    failed_attempts = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Attempts since then, none of which had a 2xx response."
    )
    last_result = models.CharField(max_length=200, blank=True, db_default="")
    last_url = models.CharField(
        max_length=2000, blank=True, db_default="", help_text="Without its query."
    )
    alert_at = models.DateTimeField(
        null=True, blank=True, help_text="When the owner is told, if it still fails."
    )

    objects = CallbackEndpointQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "origin"], name="endpoint_of_account")
        ]
        indexes = [
            models.Index(
                fields=["alert_at"], condition=Q(alert_at__isnull=False), name="endpoint_alert"
            )
        ]

    def __str__(self) -> str:
        return f"{self.origin} ({self.failures} attempts without a response)"


class CallbackDelivery(models.Model):
    """A callback on its way to a customer's backend: the outbox.

    The body is sealed, and erased once it is delivered or given up. ``due_at`` and
    ``claimed_until`` use the database's clock, which all workers share.
    """

    PURPOSE = "callback"

    class Kind(models.TextChoices):
        CALL_END = "onCallEnd"
        ERROR = "onError"

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        GIVEN_UP = "given-up"

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    call = models.ForeignKey(
        Call, on_delete=models.CASCADE, related_name="callbacks", db_index=False
    )
    kind = models.CharField(max_length=9, choices=Kind)
    url = models.URLField(max_length=2000)
    sealed_body = models.BinaryField(null=True)
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    last_result = models.CharField(max_length=200, blank=True)
    due_at = models.DateTimeField(db_default=Now(), help_text="When the next attempt is due.")
    claimed_until = models.DateTimeField(
        null=True, blank=True, help_text="A worker is sending it, or died before this time."
    )
    resends = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        help_text="Attempts that the customer requested, which the schedule does not count.",
    )
    resume_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the schedule continues if the attempt that the customer requested fails.",
    )
    is_superseded = models.BooleanField(
        default=False,
        db_default=False,
        help_text="It reports an end that was undone. Another callback reports the final end.",
    )
    held_by = models.ForeignKey(
        CallbackEndpoint,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="held",
        db_index=False,
        help_text="It is due, and waits until this endpoint responds.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = CallbackDeliveryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["call"],
                condition=Q(kind="onCallEnd", is_superseded=False),
                name="one_end_per_call",
            )
        ]
        indexes = [
            models.Index(fields=["call", "created_at"], name="delivery_by_call"),
            models.Index(
                fields=["account", "due_at"],
                condition=Q(state="pending", held_by=None),
                name="delivery_waiting",
            ),
            models.Index(
                fields=["account", "claimed_until"],
                condition=Q(state="pending", claimed_until__isnull=False),
                name="delivery_under_way",
            ),
            models.Index(
                fields=["held_by", "due_at"],
                condition=Q(held_by__isnull=False),
                name="delivery_held",
            ),
            models.Index(
                fields=["created_at"],
                condition=Q(held_by__isnull=False),
                name="delivery_held_longest",
            ),
            models.Index(fields=["account", "created_at"], name="delivery_by_account"),
            models.Index(fields=["account", "state", "created_at"], name="delivery_by_state"),
            # What operators look at: those of all accounts that are not delivered, and errors.
            models.Index(
                fields=["due_at"], condition=Q(state="pending"), name="delivery_pending_of_all"
            ),
            models.Index(
                fields=["state", "id"],
                condition=~Q(state="delivered"),
                name="delivery_undelivered_of_all",
            ),
            models.Index(
                fields=["id"], condition=Q(kind="onError"), name="delivery_of_errors_of_all"
            ),
            # One index per filter of the page.
            models.Index(
                F("account"),
                PROGRESS,
                F("created_at"),
                condition=Q(state="pending"),
                name="delivery_pending_by_progress",
            ),
            models.Index(
                F("account"),
                ORIGIN,
                F("created_at"),
                name="delivery_by_origin",
            ),
            models.Index(
                fields=["account", "created_at"],
                condition=Q(kind="onError"),
                name="delivery_of_errors",
            ),
            # What waits for a server.
            models.Index(
                F("account"),
                ORIGIN,
                F("due_at"),
                condition=Q(state="pending"),
                name="delivery_waiting_for",
            ),
        ]
        verbose_name_plural = "callback deliveries"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def next_attempt_at(self) -> datetime | None:
        """The time of the next attempt, if there is one."""
        if self.state != self.State.PENDING:
            return None
        return max(self.due_at, self.held_by.probe_at) if self.held_by else self.due_at

    @property
    def progress(self) -> str:
        """Return the state; if it is pending, ``failing`` or, before any attempt, ``waiting``."""
        if self.state != self.State.PENDING:
            return self.state
        return "failing" if self.attempts or self.held_by_id else "waiting"


class SealedAnswer(models.Model):
    """A request to a customer's backend, and how it ended; kept for 30 days.

    The response is sealed: it is the customer's own text, and may contain anything but credentials.
    """

    PURPOSE = "callback-answer"

    at = models.DateTimeField(db_index=True)
    duration_ms = models.PositiveIntegerField()
    result = models.CharField(max_length=200, help_text="An HTTP status, or the name of a failure.")
    sealed_answer = models.BinaryField(null=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.result} at {self.at}"


class CallbackAttempt(SealedAnswer):
    """One attempt to send a callback."""

    delivery = models.ForeignKey(
        CallbackDelivery, on_delete=models.CASCADE, related_name="attempt_list"
    )


class FailedRequest(SealedAnswer):
    """A failed onCallStart or onToolCall, which are sent once and have no delivery."""

    class Kind(models.TextChoices):
        CALL_START = "onCallStart"
        TOOL_CALL = "onToolCall"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    call = models.ForeignKey(Call, on_delete=models.CASCADE, related_name="failed_requests")
    kind = models.CharField(max_length=11, choices=Kind)
    tool = models.CharField(max_length=64, blank=True)
    url = models.CharField(max_length=2000, help_text="Without its query.")


FAILED_IN_ORDER = Prefetch("failed_requests", FailedRequest.objects.order_by("at", "id"))
ATTEMPTS_IN_ORDER = Prefetch("attempt_list", CallbackAttempt.objects.order_by("id"))
