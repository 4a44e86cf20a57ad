"""Numbers, calls, and what a call leaves for other processes to act on."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Self, get_args

from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Case, Exists, F, Func, OuterRef, Prefetch, Q, Subquery, Value, When
from django.db.models.functions import Lower, Now
from django.utils import timezone

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from core.ids import new_id
from core.texts import validate_line
from telephony.call_sids import is_test_sid
from telephony.engine.codes import EndedReason, OutcomeGroup, outcome_of
from telephony.numbering import number_digits

LONGEST_NUMBER_NAME = 64


class PhoneNumberQuerySet(OwnedQuerySet["PhoneNumber"]):
    def with_last_calls(self) -> Self:
        """Add the ids of each number's last calls, if there are any: one index lookup for each.

        ``last_inbound_id``, ``last_outbound_id``, and ``last_failed_id`` of the last one that
        reported an error.
        """
        calls = Call.objects.filter(account=OuterRef("account")).order_by("-created_at")
        inbound = calls.filter(
            direction=Call.Direction.INBOUND, called_number=OuterRef("phone_number")
        )
        outbound = calls.filter(
            direction=Call.Direction.OUTBOUND, caller_phone=OuterRef("phone_number")
        )
        failed = calls.exclude(error_code="").alias(our_number=OUR_NUMBER)
        failed = failed.filter(our_number=OuterRef("phone_number"))
        return self.annotate(
            last_inbound_id=Subquery(inbound.values("pk")[:1]),
            last_outbound_id=Subquery(outbound.values("pk")[:1]),
            last_failed_id=Subquery(failed.values("pk")[:1]),
        )

    def matching(self, text: str) -> Self:
        """Numbers whose name has the text in it, or that have its digits in them."""
        digits = number_digits(text)
        found = Q(name__icontains=text)
        return self.filter(found | Q(phone_number__contains=digits) if digits else found)


class PhoneNumber(models.Model):
    """A US number, in E.164, and the URLs for its callbacks."""

    id = models.CharField(primary_key=True, max_length=25, default=new_id, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="phone_numbers")
    phone_number = models.CharField(max_length=16, unique=True)
    name = models.CharField(
        max_length=LONGEST_NUMBER_NAME, blank=True, db_default="", validators=[validate_line]
    )
    on_call_start_url = models.URLField(max_length=2000)
    on_call_end_url = models.URLField(max_length=2000)
    on_error_url = models.URLField(max_length=2000, blank=True)
    is_active = models.BooleanField(default=True)
    twilio_account_sid = models.CharField(
        "Twilio account",
        max_length=34,
        blank=True,
        db_default="",
        help_text="Calls from other Twilio accounts are refused. Set by the first verified call.",
    )
    verified_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When Twilio first signed a call to it, or first confirmed that its Twilio "
        "account has it.",
    )
    signed_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When Twilio last signed a call to it, give or take a minute.",
    )
    refused_account_sid = models.CharField(
        "refused Twilio account",
        max_length=34,
        blank=True,
        db_default="",
        help_text="The last other Twilio account that a call came from.",
    )
    refused_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PhoneNumberQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["account", "created_at"], name="number_by_account")]

    def __str__(self) -> str:
        return self.phone_number


class ReleasedNumber(models.Model):
    """A number that its account released after verified calls.

    Twilio may still send its calls here. It is held back, so that no other account receives them:
    see ``telephony.numbers``.
    """

    phone_number = models.CharField(primary_key=True, max_length=16)
    account = models.ForeignKey(Account, on_delete=models.SET_NULL, null=True, related_name="+")
    twilio_account_sid = models.CharField(max_length=34, blank=True)
    verified_at = models.DateTimeField()
    released_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.phone_number


# The longest that a call may wait for its audio: a phone rings for two minutes, and Twilio queues
# calls that are placed too quickly.
UNCONNECTED_LASTS = timedelta(minutes=15)

# The account's own number of a call. Indexes contain this expression and the ones below: changing
# one takes a migration.
OUR_NUMBER = Case(When(direction="inbound", then=F("called_number")), default=F("caller_phone"))
# The other party's number.
OTHER_NUMBER = Case(When(direction="inbound", then=F("caller_phone")), default=F("called_number"))


def _ended_as(group: OutcomeGroup) -> list[str]:
    return [reason.value for reason in EndedReason if reason.outcome == group]


# The outcome of a call in SQL: see ``outcome_of``.
OUTCOME = Case(
    When(ended_reason="", then=Value("in-progress")),
    When(ended_reason__in=_ended_as("completed"), then=Value("completed")),
    When(ended_reason__in=_ended_as("unanswered"), then=Value("unanswered")),
    When(ended_reason=EndedReason.REJECTED.value, error_code="", then=Value("rejected")),
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
    is_draining = models.BooleanField(default=False, help_text="It finishes its calls and exits.")

    def __str__(self) -> str:
        return self.id


class Watch(models.Model):
    """The time since which the engines have been watched without a gap, by any process: one row."""

    since = models.DateTimeField()
    looked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"since {self.since}"


class CallQuerySet(OwnedQuerySet["Call"]):
    def live(self) -> Self:
        return self.filter(ended_at=None)

    def orphans(self) -> Self:
        """Live calls whose engine is gone."""
        theirs = Engine.objects.filter(pk=OuterRef("engine_id"))
        return self.exclude(engine_id="").filter(~Exists(theirs))

    def with_a_place(self, now: datetime) -> Self:
        """Live calls that count against the account's limit of concurrent calls."""
        is_ours = Q(direction=Call.Direction.OUTBOUND) | Q(accepted_at__isnull=False)
        is_heard = Q(answered_at__isnull=False, audio_ended_at=None)
        return self.filter(is_heard | Q(answered_at=None) & is_ours & Q(held_until__gt=now))

    def unverified_rings(self, now: datetime) -> Self:
        """Live calls whose sender only the backend's response will verify."""
        return self.filter(direction=Call.Direction.INBOUND, accepted_at=None, held_until__gt=now)

    def to_be_swept(self, now: datetime) -> Self:
        """Calls that no sweep has failed at recently."""
        return self.filter(Q(swept_after=None) | Q(swept_after__lte=now))

    def that_came_out(self, outcome: str) -> Self:
        return self.alias(came_out=OUTCOME).filter(came_out=outcome)

    def with_number(self, number: str) -> Self:
        """Calls in which the number is the account's own, not the other party's."""
        return self.alias(our_number=OUR_NUMBER).filter(our_number=number)

    def with_other_number(self, number: str) -> Self:
        """Calls in which the number is the other party's."""
        return self.alias(other_number=OTHER_NUMBER).filter(other_number=number)


class Call(models.Model):
    """A call, from the moment we hear of it or place it, and after its end."""

    class Direction(models.TextChoices):
        INBOUND = "inbound"
        OUTBOUND = "outbound"

    class Status(models.TextChoices):
        """Twilio's names for a call's state, and ``rejected`` for one that was never answered."""

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
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="calls", db_index=False
    )
    call_sid = models.CharField(max_length=34, unique=True, null=True, blank=True)
    direction = models.CharField(max_length=8, choices=Direction)
    status = models.CharField(max_length=11, choices=Status)
    caller_phone = models.CharField(max_length=64)
    called_number = models.CharField(max_length=64)
    answered_by = models.CharField(max_length=32, blank=True)
    ended_reason = models.CharField(max_length=32, blank=True)
    error_code = models.CharField(
        max_length=80,
        blank=True,
        db_default="",
        default="",
        help_text="What went wrong: why it failed or, if it completed, its first problem.",
    )
    metadata = models.JSONField(null=True, blank=True)

    on_call_start_url = models.URLField(max_length=2000)
    on_call_end_url = models.URLField(max_length=2000)
    on_error_url = models.URLField(max_length=2000, blank=True)

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    accepted_at = models.DateTimeField(
        null=True, blank=True, help_text="When the customer's backend accepted or placed the call."
    )
    answered_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the caller's audio was connected.",
    )
    billed_from = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the model accepted its configuration, which starts billing. None if it "
        "never did, or failed before the agent said or did anything.",
    )
    held_until = models.DateTimeField(
        db_default=Now() + UNCONNECTED_LASTS,
        editable=False,
        help_text="How long it may wait for its audio, while the backend decides, a ticket is "
        "valid or a phone rings.",
    )
    last_seen_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the engine last reported the call; at first, when the call was accepted.",
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
        help_text="When the caller's socket closed before a tool or a transcript finished.",
    )
    lost_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When it was last ended because its engine's heartbeat stopped.",
    )
    swept_after = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="A sweep failed at it: none retries before this time.",
    )
    webhook_digest = models.CharField(
        max_length=64,
        blank=True,
        db_default="",
        editable=False,
        help_text="SHA-256 of the call's first webhook: a retry has the same.",
    )
    hangup_requested_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    duration_seconds = models.PositiveIntegerField(default=0)
    after_stream = models.JSONField(
        null=True,
        blank=True,
        help_text='The response to Twilio after the media stream: {"say"} or {"transfer"}.',
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
            # The last failure of a number.
            models.Index(
                F("account"),
                OUR_NUMBER,
                F("created_at").desc(),
                condition=~Q(error_code=""),
                name="call_failed_by_number",
            ),
            # One index per filter, newest first.
            models.Index(
                F("account"),
                OUR_NUMBER,
                F("created_at").desc(),
                F("id").desc(),
                name="call_by_number",
            ),
            models.Index(
                F("account"),
                OTHER_NUMBER,
                F("created_at").desc(),
                F("id").desc(),
                name="call_by_other_number",
            ),
            models.Index(
                F("account"),
                OUTCOME,
                F("created_at").desc(),
                F("id").desc(),
                name="call_by_result",
            ),
            models.Index(
                fields=["account", "error_code", "-created_at", "-id"],
                condition=~Q(error_code=""),
                name="call_by_error_code",
            ),
            models.Index(
                fields=["account", "direction", "-created_at", "-id"], name="call_by_direction"
            ),
            # The operators' filters, which find the calls of all accounts.
            models.Index(fields=["caller_phone", "-id"], name="call_of_all_by_caller"),
            models.Index(fields=["called_number", "-id"], name="call_of_all_by_called"),
            models.Index(fields=["direction", "-id"], name="call_of_all_by_direction"),
            models.Index(
                OUTCOME,
                F("id").desc(),
                condition=~Q(ended_reason=""),
                name="call_of_all_by_result",
            ),
            models.Index(
                fields=["ended_reason", "-id"],
                condition=~Q(ended_reason=""),
                name="call_of_all_by_reason",
            ),
            models.Index(
                fields=["error_code", "-id"],
                condition=~Q(error_code=""),
                name="call_of_all_by_error_code",
            ),
        ]

    def __str__(self) -> str:
        return self.call_sid or self.id

    @property
    def is_test(self) -> bool:
        return is_test_sid(self.call_sid or "")

    @property
    def outcome(self) -> str:
        return outcome_of(self.ended_reason, self.error_code)

    @property
    def numbers(self) -> tuple[str, str]:
        """The account's own number, and the other party's."""
        pair = (self.caller_phone, self.called_number)
        return pair if self.direction == self.Direction.OUTBOUND else pair[::-1]


class CallEvent(models.Model):
    """An entry of a call's timeline: an event and its time, never what was said."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    call = models.ForeignKey(Call, on_delete=models.CASCADE, related_name="events", db_index=False)
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=40)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        indexes = [models.Index(fields=["call", "at", "id"], name="call_event_by_call")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"


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


class MetadataValue(models.Model):
    """A value in a call's metadata, by which the call can be found: see ``call_search``.

    ``created_at`` is the call's, so that the index lists the calls with a value by time.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    call = models.ForeignKey(
        Call, on_delete=models.CASCADE, related_name="metadata_values", db_index=False
    )
    created_at = models.DateTimeField()
    value = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["call", "value"], name="metadata_value_of_call")
        ]
        indexes = [
            models.Index(
                fields=["account", "value", "-created_at", "-call"], name="metadata_by_value"
            )
        ]

    def __str__(self) -> str:
        return self.value


class SealedPlan(models.Model):
    """A call's plan on its way from the webhook to the media socket.

    Only the TwiML has the key. The table is unlogged: neither a backup nor a replica contains it,
    and a plan that is lost in a crash belongs to a call that was lost with it.
    """

    call = models.OneToOneField(Call, primary_key=True, on_delete=models.CASCADE)
    ciphertext = models.BinaryField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"Sealed plan of {self.call_id}"


class CallProgress(models.Model):
    """The state of a call in progress, sealed, for the process that ends it if its engine dies."""

    PURPOSE = "call-progress"

    call = models.OneToOneField(Call, primary_key=True, on_delete=models.CASCADE)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    sealed = models.BinaryField()
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"Progress of {self.call_id}"


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
    the path, and each call can have its own URL. The first 2xx response deletes the row.
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
            models.Index(fields=["account", "-created_at", "-id"], name="delivery_by_account"),
            models.Index(
                fields=["account", "state", "-created_at", "-id"], name="delivery_by_state"
            ),
            # What operators look at: those of all accounts that are not delivered, and errors.
            models.Index(
                fields=["due_at"], condition=Q(state="pending"), name="delivery_pending_of_all"
            ),
            models.Index(
                fields=["state", "-id"],
                condition=~Q(state="delivered"),
                name="delivery_undelivered_of_all",
            ),
            models.Index(
                fields=["-id"], condition=Q(kind="onError"), name="delivery_of_errors_of_all"
            ),
            # One index per filter of the page, newest first.
            models.Index(
                F("account"),
                PROGRESS,
                F("created_at").desc(),
                F("id").desc(),
                condition=Q(state="pending"),
                name="delivery_pending_by_progress",
            ),
            models.Index(
                F("account"),
                ORIGIN,
                F("created_at").desc(),
                F("id").desc(),
                name="delivery_by_origin",
            ),
            models.Index(
                fields=["account", "-created_at", "-id"],
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


class Incident(models.Model):
    """Something that failed, and what the account's owner was told about it.

    There is one row from the first failure until things went well again, and one more for the next
    time. See ``telephony.incidents``.
    """

    class Kind(models.TextChoices):
        ENDPOINT = "endpoint", "an endpoint accepts no callbacks"
        GIVEN_UP = "given-up", "a callback was given up"
        CALLS = "calls", "calls of a number fail"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind)
    subject = models.CharField(
        max_length=400, help_text="An origin, or for calls the number and the code."
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


ATTEMPTS_IN_ORDER = Prefetch("attempt_list", CallbackAttempt.objects.order_by("id"))


class IdempotencyKey(models.Model):
    """The key of a request for a call, and the response once the call was recorded.

    The body is stored as a keyed hash, since it contains Twilio's token. ``created_at`` uses the
    database's clock, which all processes share.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    call = models.OneToOneField(Call, on_delete=models.CASCADE, related_name="+")
    status = models.PositiveSmallIntegerField(
        null=True, help_text="The HTTP status of the response; none while the request is running."
    )
    body = models.TextField(blank=True, help_text="The response, as JSON.")
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    objects = OwnedQuerySet["IdempotencyKey"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "key"], name="idempotency_key_of_account")
        ]

    def __str__(self) -> str:
        return self.key
