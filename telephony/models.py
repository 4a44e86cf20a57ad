"""Numbers, calls, and what a call leaves behind for other processes to act on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Prefetch, Q, Subquery, Value, When
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from core.ids import new_id
from telephony.engine.codes import EndedReason, OutcomeGroup


class PhoneNumberQuerySet(OwnedQuerySet["PhoneNumber"]):
    def with_last_calls(self) -> Self:
        """Add the ids of each number's last call in and out, as far as there are any.

        ``last_inbound_id`` and ``last_outbound_id``: a look at an index for each.
        """
        calls = Call.objects.filter(account=OuterRef("account")).order_by("-created_at")
        inbound = calls.filter(
            direction=Call.Direction.INBOUND, called_number=OuterRef("phone_number")
        )
        outbound = calls.filter(
            direction=Call.Direction.OUTBOUND, caller_phone=OuterRef("phone_number")
        )
        return self.annotate(
            last_inbound_id=Subquery(inbound.values("pk")[:1]),
            last_outbound_id=Subquery(outbound.values("pk")[:1]),
        )


class PhoneNumber(models.Model):
    """A US number, in E.164, and the URLs that are asked about its calls."""

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="phone_numbers")
    phone_number = models.CharField(max_length=16, unique=True)
    on_call_start_url = models.URLField(max_length=2000)
    on_call_end_url = models.URLField(max_length=2000)
    on_error_url = models.URLField(max_length=2000, blank=True)
    is_active = models.BooleanField(default=True)
    twilio_account_sid = models.CharField(
        "Twilio account",
        max_length=34,
        blank=True,
        db_default="",
        help_text="Calls from any other account of Twilio's are refused. Set by the first verified "
        "call.",
    )
    verified_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When Twilio first signed a call to it with the token that its backend knows.",
    )
    refused_account_sid = models.CharField(
        "refused Twilio account",
        max_length=34,
        blank=True,
        db_default="",
        help_text="The last other account of Twilio's that a call came from.",
    )
    refused_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PhoneNumberQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["account", "created_at"], name="number_by_account")]

    def __str__(self) -> str:
        return self.phone_number


class ReleasedNumber(models.Model):
    """A number that its account gave up after verified calls: Twilio may still send its calls here.

    It rests, so that nobody else answers them: see ``telephony.numbers``.
    """

    phone_number = models.CharField(primary_key=True, max_length=16)
    account = models.ForeignKey(Account, on_delete=models.SET_NULL, null=True, related_name="+")
    twilio_account_sid = models.CharField(max_length=34, blank=True)
    verified_at = models.DateTimeField()
    released_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.phone_number


# How long a call may wait for its audio at most: a phone rings for two minutes, and Twilio queues
# calls that are placed too quickly.
UNCONNECTED_LASTS = timedelta(minutes=15)

# The account's own number of a call. An index has this expression, and those below: to change one
# takes a migration.
OUR_NUMBER = Case(When(direction="inbound", then=F("called_number")), default=F("caller_phone"))


def _ended_as(group: OutcomeGroup) -> list[str]:
    return [reason.value for reason in EndedReason if reason.outcome == group]


# How a call came out, from `ended_reason`, which is empty while the call is in progress.
OUTCOME = Case(
    When(ended_reason="", then=Value("in-progress")),
    When(ended_reason__in=_ended_as("completed"), then=Value("completed")),
    When(ended_reason__in=_ended_as("unanswered"), then=Value("unanswered")),
    When(ended_reason=EndedReason.REJECTED.value, then=Value("rejected")),
    default=Value("failed"),
    output_field=models.CharField(),
)


class Engine(models.Model):
    """A process that holds calls, from its start to its end: see ``telephony.engines``.

    Its times are the database's own, which all processes share.
    """

    id = models.CharField(primary_key=True, max_length=25, editable=False)
    started_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    is_draining = models.BooleanField(default=False, help_text="It is about to stop.")

    def __str__(self) -> str:
        return self.id


class Watch(models.Model):
    """Since when the engines have been watched without a gap, by whichever process: one row."""

    since = models.DateTimeField()
    looked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"since {self.since}"


class CallQuerySet(OwnedQuerySet["Call"]):
    def live(self) -> Self:
        return self.filter(ended_at=None)

    def orphans(self) -> Self:
        """Of live calls, those whose engine is gone."""
        theirs = Engine.objects.filter(pk=OuterRef("engine_id"))
        return self.exclude(engine_id="").filter(~Exists(theirs))

    def with_a_place(self, now: datetime) -> Self:
        """Of live calls, those that count against the most that an account may have at a time."""
        is_ours = Q(direction=Call.Direction.OUTBOUND) | Q(accepted_at__isnull=False)
        is_heard = Q(answered_at__isnull=False, audio_ended_at=None)
        return self.filter(is_heard | Q(answered_at=None) & is_ours & Q(held_until__gt=now))

    def unverified_rings(self, now: datetime) -> Self:
        """Of live calls, those of which only their backend's answer will tell who sent them."""
        return self.filter(direction=Call.Direction.INBOUND, accepted_at=None, held_until__gt=now)

    def to_be_swept(self, now: datetime) -> Self:
        """Those that no sweep has failed at just now."""
        return self.filter(Q(swept_after=None) | Q(swept_after__lte=now))

    def with_outcome(self) -> Self:
        """With ``outcome``: see :data:`OUTCOME`."""
        return self.annotate(outcome=OUTCOME)

    def that_came_out(self, outcome: str) -> Self:
        return self.alias(came_out=OUTCOME).filter(came_out=outcome)

    def with_number(self, number: str) -> Self:
        """Those in which the number is the account's own, not the other person's."""
        return self.alias(our_number=OUR_NUMBER).filter(our_number=number)


class Call(models.Model):
    """A call from the moment we hear of it, or place it, until its end and after."""

    class Direction(models.TextChoices):
        INBOUND = "inbound"
        OUTBOUND = "outbound"

    class Status(models.TextChoices):
        """Twilio's words for a call's state, and ``rejected`` for one that was never answered."""

        QUEUED = "queued"
        RINGING = "ringing"
        IN_PROGRESS = "in-progress"
        COMPLETED = "completed"
        BUSY = "busy"
        NO_ANSWER = "no-answer"
        FAILED = "failed"
        CANCELED = "canceled"
        REJECTED = "rejected"

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="calls")
    call_sid = models.CharField(max_length=34, unique=True, null=True, blank=True)
    direction = models.CharField(max_length=8, choices=Direction)
    status = models.CharField(max_length=11, choices=Status)
    caller_phone = models.CharField(max_length=64)
    called_number = models.CharField(max_length=64)
    answered_by = models.CharField(max_length=32, blank=True)
    ended_reason = models.CharField(max_length=32, blank=True)
    metadata = models.JSONField(null=True, blank=True)

    on_call_start_url = models.URLField(max_length=2000)
    on_call_end_url = models.URLField(max_length=2000)
    on_error_url = models.URLField(max_length=2000, blank=True)

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    accepted_at = models.DateTimeField(
        null=True, blank=True, help_text="The customer's backend took the call, or placed it."
    )
    answered_at = models.DateTimeField(
        null=True, blank=True, help_text="The caller's audio was connected: billing starts."
    )
    held_until = models.DateTimeField(
        db_default=Now() + UNCONNECTED_LASTS,
        editable=False,
        help_text="How long it may wait for its audio: the backend decides, a ticket is valid, a "
        "phone rings.",
    )
    last_seen_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the engine that holds the call last said so; at first, when it was let in.",
    )
    engine_id = models.CharField(
        max_length=25,
        blank=True,
        db_default="",
        editable=False,
        help_text="The engine that holds its audio, or held it last.",
    )
    audio_ended_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="The caller's socket was closed, and a tool or a transcript was yet to come.",
    )
    lost_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When it was last ended because its engine was not heard of any more.",
    )
    swept_after = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="A sweep failed at it: none tries again before.",
    )
    webhook_digest = models.CharField(
        max_length=64,
        blank=True,
        db_default="",
        editable=False,
        help_text="SHA-256 of the webhook that rang: a repetition has the same.",
    )
    hangup_requested_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    duration_seconds = models.PositiveIntegerField(default=0)
    after_stream = models.JSONField(
        null=True,
        blank=True,
        help_text='What Twilio is told when the media stream has closed: {"say"} or {"transfer"}.',
    )

    objects = CallQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="call_by_account"),
            models.Index(fields=["account"], condition=Q(ended_at=None), name="call_live"),
            models.Index(
                fields=["last_seen_at", "held_until"],
                condition=Q(ended_at=None),
                name="call_live_by_age",
            ),
            # The last call of a number.
            models.Index(
                fields=["account", "called_number", "-created_at"],
                condition=Q(direction="inbound"),
                name="call_inbound_by_number",
            ),
            models.Index(
                fields=["account", "caller_phone", "-created_at"],
                condition=Q(direction="outbound"),
                name="call_outbound_by_number",
            ),
            # A filter each, with the newest first.
            models.Index(
                F("account"),
                OUR_NUMBER,
                F("created_at").desc(),
                F("id").desc(),
                name="call_by_number",
            ),
            models.Index(
                F("account"),
                OUTCOME,
                F("created_at").desc(),
                F("id").desc(),
                name="call_by_outcome",
            ),
            models.Index(
                fields=["account", "direction", "-created_at", "-id"], name="call_by_direction"
            ),
        ]

    def __str__(self) -> str:
        return self.call_sid or self.id


class CallEvent(models.Model):
    """One line of a call's timeline: what happened and when, never what was said."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    call = models.ForeignKey(Call, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=40)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        indexes = [models.Index(fields=["call", "at", "id"], name="call_event_by_call")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"


class SealedPlan(models.Model):
    """A call's plan on its way from the webhook to the media socket.

    The key is in the TwiML only. The table is unlogged: neither a backup nor a replica has it, and
    a plan that is lost with a crash is a call that was lost with it.
    """

    call = models.OneToOneField(Call, primary_key=True, on_delete=models.CASCADE)
    ciphertext = models.BinaryField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"Sealed plan of {self.call_id}"


class CallProgress(models.Model):
    """What a running call has come to so far, sealed, for whoever ends it if its engine dies."""

    PURPOSE = "call-progress"

    call = models.OneToOneField(Call, primary_key=True, on_delete=models.CASCADE)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    sealed = models.BinaryField()
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"Progress of {self.call_id}"


class CallbackDeliveryQuerySet(OwnedQuerySet["CallbackDelivery"]):
    def under_way(self) -> Self:
        """Those that a worker is sending right now."""
        pending = self.filter(state=CallbackDelivery.State.PENDING)
        return pending.filter(claimed_until__isnull=False, claimed_until__gt=Now())

    def ready(self) -> Self:
        """Those that may be sent now: due, not under way, and not held back."""
        return self.filter(
            Q(claimed_until=None) | Q(claimed_until__lte=Now()),
            state=CallbackDelivery.State.PENDING,
            held_by=None,
            due_at__lte=Now(),
        )

    def with_attempts(self) -> Self:
        """With what became of each attempt, and without what is said."""
        with_endpoint = self.defer("sealed_body").select_related("held_by")
        return with_endpoint.prefetch_related(ATTEMPTS_IN_ORDER)


class CallbackEndpoint(models.Model):
    """A server that an account's callbacks go to, while it does not answer.

    It is known by its origin, ``https://host:port``: it is a server that hangs or cannot be
    reached, whatever the path; and a URL can be another one for each call. The first answer, be it
    an error, deletes the row.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    origin = models.CharField(max_length=300)
    failures = models.PositiveIntegerField(
        default=0, help_text="Attempts in a row that had no answer."
    )
    probe_at = models.DateTimeField(
        db_default=Now(), help_text="When one callback may try again, if it keeps failing."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "origin"], name="endpoint_of_account")
        ]

    def __str__(self) -> str:
        return f"{self.origin} ({self.failures} times without an answer)"


class CallbackDelivery(models.Model):
    """A callback on its way to a customer's backend: the outbox.

    The body is sealed, and erased when it was delivered or given up. ``due_at`` and
    ``claimed_until`` go by the database's clock, which all workers share.
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
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    call = models.ForeignKey(Call, on_delete=models.CASCADE, related_name="callbacks")
    kind = models.CharField(max_length=9, choices=Kind)
    url = models.URLField(max_length=2000)
    sealed_body = models.BinaryField(null=True)
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    last_result = models.CharField(max_length=200, blank=True)
    due_at = models.DateTimeField(db_default=Now(), help_text="When it is sent next.")
    claimed_until = models.DateTimeField(
        null=True, blank=True, help_text="A worker is sending it, or died before this moment."
    )
    resends = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        help_text="Attempts that the customer asked for: the schedule does not count them.",
    )
    resume_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the schedule goes on, should the attempt fail that the customer asked for.",
    )
    is_superseded = models.BooleanField(
        default=False,
        db_default=False,
        help_text="It tells of an end that turned out to be none: another one tells of the end.",
    )
    held_by = models.ForeignKey(
        CallbackEndpoint,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="held",
        db_index=False,
        help_text="It is due, and waits until this endpoint answers.",
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
            models.Index(fields=["account", "-created_at", "-id"], name="delivery_by_account"),
            models.Index(
                fields=["account", "state", "-created_at", "-id"], name="delivery_by_state"
            ),
        ]
        verbose_name_plural = "callback deliveries"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def next_attempt_at(self) -> datetime | None:
        """When it is sent next, if it is."""
        if self.state != self.State.PENDING:
            return None
        return max(self.due_at, self.held_by.probe_at) if self.held_by else self.due_at


class CallbackAttempt(models.Model):
    """One time that a callback was sent, and what came of it; kept for 30 days.

    The answer is sealed: it is the customer's own text, and nobody knows what a backend says.
    """

    PURPOSE = "callback-answer"

    delivery = models.ForeignKey(
        CallbackDelivery, on_delete=models.CASCADE, related_name="attempt_list"
    )
    at = models.DateTimeField(db_index=True)
    duration_ms = models.PositiveIntegerField()
    result = models.CharField(max_length=200, help_text="A status of HTTP, or a failure's name.")
    sealed_answer = models.BinaryField(null=True)

    def __str__(self) -> str:
        return f"{self.result} at {self.at}"


ATTEMPTS_IN_ORDER = Prefetch("attempt_list", CallbackAttempt.objects.order_by("id"))


class IdempotencyKey(models.Model):
    """The key under which a call was asked for, and what was answered once it was written down.

    The body is kept as a keyed hash, for Twilio's token is in it. ``created_at`` goes by the
    database's clock, which all processes share.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    call = models.OneToOneField(Call, on_delete=models.CASCADE, related_name="+")
    status = models.PositiveSmallIntegerField(
        null=True, help_text="The HTTP status of the answer; none while the request is running."
    )
    body = models.TextField(blank=True, help_text="The answer, as JSON.")
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    objects = OwnedQuerySet["IdempotencyKey"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "key"], name="idempotency_key_of_account")
        ]

    def __str__(self) -> str:
        return self.key
