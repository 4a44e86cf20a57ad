"""Calls, and what is stored of each."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Left, Now
from django.template.defaultfilters import pluralize
from django.utils import timezone

from accounts.models import Account
from accounts.ownership import OwnedQuerySet
from core.errors import ApiError
from core.ids import is_id, made_at, new_id
from telephony.call_sids import is_test_sid
from telephony.engine.codes import EndedReason, OutcomeGroup, outcome_of
from telephony.models.processes import Process

# The longest that a call may wait for its audio: a phone rings for two minutes, and Twilio queues
# calls that are placed too quickly.
UNCONNECTED_LASTS = timedelta(minutes=15)

# The account's own number of a call. Indexes contain this expression and the ones below: changing
# one takes a migration.
OUR_NUMBER = Case(When(direction="inbound", then=F("called_number")), default=F("caller_phone"))
# The other party's number.
OTHER_NUMBER = Case(When(direction="inbound", then=F("caller_phone")), default=F("called_number"))

# Ids begin with their time: these are the half hours of an engine's calls. An index on the id
# itself would take ten times the room, because no two of its entries are alike.
HALF_HOUR = Left("id", 5)


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

# Ends other than those of most calls.
UNCOMMON_END = ~Q(ended_reason__in=["", *_ended_as("completed")])


# No engine holds a call whose stream broke, and it may go on in another stream. If an engine holds
# a call whose audio has ended, the caller has hung up.
_HAS_CALLER = Q(answered_at__isnull=False) & (Q(audio_ended_at=None) | Q(engine_id=""))


class CallQuerySet(OwnedQuerySet["Call"]):
    def access(self, account: Account, id: str) -> Call:
        """Return the account's call. The 404 says if it may have been deleted because of its age.

        :param id: its id, or a CallSid, which does not tell its age.
        """
        try:
            return super().access(account, id)
        except ApiError as error:
            days = settings.RETAIN_CALLS_DAYS
            is_kept = is_id(id) and made_at(id) > timezone.now() - timedelta(days=days)
            if not days or is_kept:
                raise
            known = f"Calls are deleted after {days} day{pluralize(days)}."
            raise ApiError(404, error.code, f"{error.message} {known}") from None

    def live(self) -> Self:
        return self.filter(ended_at=None)

    def orphans(self) -> Self:
        """Live calls whose engine is gone."""
        theirs = Process.objects.engines().filter(pk=OuterRef("engine_id"))
        return self.exclude(engine_id="").filter(~Exists(theirs))

    def with_a_place(self, now: datetime) -> Self:
        """Live calls that count against the account's limit of concurrent calls."""
        is_ours = Q(direction=Call.Direction.OUTBOUND) | Q(accepted_at__isnull=False)
        is_waiting = Q(answered_at=None) & is_ours & Q(held_until__gt=now)
        return self.filter(_HAS_CALLER | is_waiting)

    def with_a_caller(self) -> Self:
        """Connected calls whose caller is there, as far as we know."""
        return self.filter(_HAS_CALLER)

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
    first_audio_ms = models.IntegerField(
        null=True,
        blank=True,
        editable=False,
        help_text="From the connection to the agent's first words, if the agent spoke first.",
    )
    turn_p50_ms = models.IntegerField(
        null=True,
        blank=True,
        editable=False,
        help_text="The latency of turns that half of them did not exceed: see call_figures.",
    )
    turn_p95_ms = models.IntegerField(
        null=True,
        blank=True,
        editable=False,
        help_text="The latency of turns that 95% of them did not exceed.",
    )
    after_stream = models.JSONField(
        null=True,
        blank=True,
        help_text='The response to Twilio after the media stream: {"say"} or {"transfer"}.',
    )

    objects = CallQuerySet.as_manager()

    class Meta:
        # Ascending, and read backwards for the newest first: PostgreSQL fills the pages of an index
        # to which it appends, and leaves those half empty to which it prepends.
        #
        # A column that changes during a call is in no index, apart from the few that change once:
        # PostgreSQL then writes the new version of a row to its page alone, and to no index.
        indexes = [
            # With the id, so that what an `offset` skips is skipped in the index. The others leave
            # it out: calls of the same microsecond are sorted when they are read.
            models.Index(fields=["account", "created_at", "id"], name="call_by_account"),
            models.Index(fields=["account"], condition=Q(ended_at=None), name="call_live"),
            # The last call of a number.
            models.Index(
                fields=["account", "called_number", "created_at"],
                condition=Q(direction="inbound"),
                name="call_inbound_by_number",
            ),
            models.Index(
                fields=["account", "caller_phone", "created_at"],
                condition=Q(direction="outbound"),
                name="call_outbound_by_number",
            ),
            # The last failure of a number.
            models.Index(
                F("account"),
                OUR_NUMBER,
                F("created_at"),
                condition=~Q(error_code=""),
                name="call_failed_by_number",
            ),
            # One index per filter.
            models.Index(F("account"), OUR_NUMBER, F("created_at"), name="call_by_number"),
            models.Index(F("account"), OTHER_NUMBER, F("created_at"), name="call_by_other_number"),
            models.Index(F("account"), OUTCOME, F("created_at"), name="call_by_result"),
            models.Index(
                fields=["account", "error_code", "created_at"],
                condition=~Q(error_code=""),
                name="call_by_error_code",
            ),
            models.Index(fields=["account", "direction", "created_at"], name="call_by_direction"),
            # The operators' filters, which find the calls of all accounts. What most calls have
            # needs none: the list of all calls has it soon.
            models.Index(fields=["caller_phone", "id"], name="call_of_all_by_caller"),
            models.Index(fields=["called_number", "id"], name="call_of_all_by_called"),
            models.Index(OUTCOME, F("id"), condition=UNCOMMON_END, name="call_of_all_by_result"),
            models.Index(
                fields=["ended_reason", "id"], condition=UNCOMMON_END, name="call_of_all_by_reason"
            ),
            models.Index(
                fields=["error_code", "id"],
                condition=~Q(error_code=""),
                name="call_of_all_by_error_code",
            ),
            models.Index(
                F("engine_id"), HALF_HOUR, condition=~Q(engine_id=""), name="call_of_engine"
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
    def latency(self) -> dict[str, int | None]:
        """The latencies in the format of the API. None before its end, and if not measured."""
        return {
            "firstAudioMs": self.first_audio_ms,
            "turnP50Ms": self.turn_p50_ms,
            "turnP95Ms": self.turn_p95_ms,
        }

    @property
    def numbers(self) -> tuple[str, str]:
        """The account's own number, and the other party's."""
        pair = (self.caller_phone, self.called_number)
        return pair if self.direction == self.Direction.OUTBOUND else pair[::-1]


class CallEvent(models.Model):
    """An entry of a call's timeline: an event and its time, never what was said."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    call = models.ForeignKey(Call, on_delete=models.CASCADE, related_name="events", db_index=False)
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=40)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        indexes = [models.Index(fields=["call", "at", "id"], name="call_event_by_call")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"


class Timeline(models.Model):
    """The events of a call that ended a while ago, compressed: see ``telephony.timelines``.

    The table has monthly partitions, by the call's id, and so no foreign keys.
    """

    call = models.OneToOneField(
        Call,
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="packed_timeline",
        db_constraint=False,
    )
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    packed = models.BinaryField()

    def __str__(self) -> str:
        return f"Timeline of {self.call_id}"


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
            models.Index(fields=["account", "value", "created_at"], name="metadata_by_value")
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


class SealedConversation(models.Model):
    """A call in progress, credentials included, for the engine that takes it up.

    It is written with each turn and deleted when the call ends. Only the URL that Twilio requests
    after the media stream has the key. The table is unlogged, like that of :class:`SealedPlan`.
    """

    call = models.OneToOneField(Call, primary_key=True, on_delete=models.CASCADE)
    ciphertext = models.BinaryField()

    def __str__(self) -> str:
        return f"Sealed conversation of {self.call_id}"


class CallProgress(models.Model):
    """The state of a call in progress, sealed, for the process that ends it if its engine dies."""

    PURPOSE = "call-progress"

    call = models.OneToOneField(Call, primary_key=True, on_delete=models.CASCADE)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    sealed = models.BinaryField()
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"Progress of {self.call_id}"


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
