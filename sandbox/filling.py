"""A year of calls for an account, as if it had used the product.

Rows are written with COPY, exactly as ``telephony.services`` and ``usage.services`` would have
written them. Their minutes count as reported to Stripe, so that no worker reports them.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from typing import Any

from django.conf import settings
from django.db import connection, models, transaction
from django.utils import timezone

from accounts.models import Account
from billing.models import MeterEvent
from core.database.partitions import ensure, month_of
from core.ids import first_id_of
from telephony.call_days import Latencies
from telephony.engine.codes import CallProblem, EndedReason, ErrorCode, EventKind, outcome_of
from telephony.engine.costs import twilio_cost
from telephony.models import (
    Call,
    CallbackAttempt,
    CallbackDelivery,
    CallDay,
    CallEvent,
    MetadataValue,
    NumberDay,
    PhoneNumber,
    Timeline,
)
from telephony.timelines import PACKED_AFTER, pack
from usage.models import DailyUsage, TotalUsage, UsageRecord
from usage.services import whole_minutes

YEAR = timedelta(days=365)
# The longest of these calls: their backend sets no limit of its own.
_LONGEST_S = 3_300
# That, and a margin: all of the calls have ended.
_LATEST = timedelta(hours=1, minutes=30)
_AT_A_TIME = 20_000
# One call in this many has a timeline and callbacks, and so have the newest.
EACH_IN_FULL = 20
_NEWEST_IN_FULL = 500
_NUMBERS = 5
_BACKEND = "https://backend.example"
_READY_AFTER_S = 1  # the model, after the caller is connected
# In the metadata of every call that was accepted.
COMMON_VALUE = "phone"
# A turn of the caller's and one of the agent's, together.
_TURNS_TAKE_S = 12
_SEALED_BYTES = 120  # of a short response
_OPENAI_PER_SECOND = Decimal("0.0012")  # roughly the cost of a minute of conversation

# (ended_reason, error_code, status, whether it connected, its share of inbound and outbound calls)
_ENDS = (
    (EndedReason.CALLER_HANGUP, "", "completed", True, 46, 39),
    (EndedReason.CALLER_HANGUP, CallProblem.TOOL_FAILED, "completed", True, 2, 1),
    (EndedReason.AGENT_HANGUP, "", "completed", True, 30, 25),
    (EndedReason.TRANSFERRED, "", "completed", True, 5, 2),
    (EndedReason.INACTIVITY, "", "completed", True, 3, 3),
    (EndedReason.MAX_DURATION, "", "completed", True, 1, 1),
    (EndedReason.MODEL_ERROR, "model_insufficient_quota", "completed", True, 2, 2),
    (EndedReason.ENGINE_LOST, ErrorCode.ENGINE_LOST, "completed", True, 1, 1),
    (EndedReason.REJECTED, "", "rejected", False, 7, 0),
    (EndedReason.REJECTED, ErrorCode.CALL_START_TIMEOUT, "rejected", False, 3, 2),
    (EndedReason.NO_ANSWER, "", "no-answer", False, 0, 14),
    (EndedReason.BUSY, "", "busy", False, 0, 7),
    (EndedReason.FAILED, CallProblem.NOT_CONNECTED, "failed", False, 0, 3),
)

Row = tuple[Any, ...]


@dataclass(slots=True)
class Rows:
    """The rows of some calls, by table, with values in the order of ``_COLUMNS``."""

    calls: list[Row] = field(default_factory=list)
    metadata: list[Row] = field(default_factory=list)
    usage: list[Row] = field(default_factory=list)
    meter: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    timelines: list[Row] = field(default_factory=list)
    deliveries: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)

    def write(self) -> None:
        months = (month_of(id) for id, *_ in self.timelines)
        ensure(Timeline._meta.db_table, months)
        for model, rows in (
            (Call, self.calls),
            (MetadataValue, self.metadata),
            (UsageRecord, self.usage),
            (MeterEvent, self.meter),
            (CallEvent, self.events),
            (Timeline, self.timelines),
            (CallbackDelivery, self.deliveries),
            (CallbackAttempt, self.attempts),
        ):
            copy_in(model, _COLUMNS[model], rows)


_COLUMNS: dict[type[models.Model], tuple[str, ...]] = {
    Call: (
        *("id", "account_id", "call_sid", "direction", "status", "caller_phone", "called_number"),
        *("answered_by", "ended_reason", "error_code", "metadata"),
        *("on_call_start_url", "on_call_end_url", "on_error_url"),
        *("created_at", "accepted_at", "answered_at", "billed_from", "last_seen_at", "ended_at"),
        "duration_seconds",
    ),
    MetadataValue: ("account_id", "call_id", "created_at", "value"),
    UsageRecord: (
        *("id", "account_id", "call_sid", "direction", "caller_phone", "called_number"),
        *("duration_seconds", "minutes", "platform_cost", "twilio_cost", "openai_cost"),
        "created_at",
    ),
    MeterEvent: (
        *("identifier", "usage_record_id", "account_id", "minutes", "happened_at", "state"),
        *("attempts", "first_attempt_at", "next_attempt_at", "sent_at"),
    ),
    CallEvent: ("account_id", "call_id", "at", "kind", "detail"),
    Timeline: ("call_id", "account_id", "packed"),
    CallbackDelivery: (
        *("id", "account_id", "call_id", "kind", "url", "state", "attempts", "last_result"),
        *("due_at", "created_at", "ended_at"),
    ),
    CallbackAttempt: ("delivery_id", "at", "duration_ms", "result", "sealed_answer"),
}


@dataclass(slots=True)
class MadeUp:
    """A made-up call."""

    id: str
    sid: str
    direction: str
    our_number: str
    other: str
    reason: EndedReason
    error_code: str
    status: str
    created_at: datetime
    accepted_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime
    seconds: int

    @property
    def billed_from(self) -> datetime | None:
        """When the model was ready."""
        return self.answered_at and self.answered_at + timedelta(seconds=_READY_AFTER_S)

    @property
    def minutes(self) -> int:
        """The billed minutes."""
        return whole_minutes(max(self.seconds - _READY_AFTER_S, 0))

    @property
    def ends(self) -> tuple[str, str]:
        """Return the caller and the callee."""
        pair = (self.other, self.our_number)
        return pair if self.direction == "inbound" else pair[::-1]


@dataclass(slots=True)
class Days:
    """Sums by UTC day: of accepted calls and their minutes, and of all calls."""

    calls: Counter[date] = field(default_factory=Counter)
    minutes: Counter[date] = field(default_factory=Counter)
    outcomes: Counter[tuple[date, str]] = field(default_factory=Counter)
    on_call_start: defaultdict[date, list[float]] = field(default_factory=lambda: defaultdict(list))
    turns: defaultdict[date, list[float]] = field(default_factory=lambda: defaultdict(list))
    turns_of_number: defaultdict[tuple[date, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, call: MadeUp, chance: random.Random) -> None:
        if call.accepted_at:
            day = call.ended_at.astimezone(UTC).date()
            self.calls[day] += 1
            self.minutes[day] += call.minutes
        began = call.created_at.astimezone(UTC).date()
        self.outcomes[began, outcome_of(call.reason, call.error_code)] += 1
        self.on_call_start[began].append(chance.lognormvariate(5, 0.6))
        if call.answered_at:
            latency = chance.lognormvariate(6.7, 0.4)
            self.turns[began].append(latency)
            self.turns_of_number[began, call.our_number].append(latency)

    def save(self, account: Account) -> None:
        DailyUsage.objects.bulk_create(
            DailyUsage(account=account, day=day, calls=self.calls[day], minutes=self.minutes[day])
            for day in self.calls
        )
        TotalUsage.objects.create(
            account=account, calls=self.calls.total(), minutes=self.minutes.total()
        )
        CallDay.objects.bulk_create(
            CallDay(
                account=account,
                day=day,
                on_call_start=Latencies.of(self.on_call_start[day]).counts,
                turns=Latencies.of(self.turns[day]).counts,
                **{outcome: self.outcomes[day, outcome] for outcome in CallDay.OUTCOMES},
            )
            for day in self.on_call_start
        )
        NumberDay.objects.bulk_create(
            NumberDay(
                account=account,
                day=day,
                number=number,
                responses=len(turns),
                turns=Latencies.of(turns).counts,
            )
            for (day, number), turns in self.turns_of_number.items()
        )


class AlreadyCalled(Exception):
    """The account already has calls."""


@transaction.atomic
def fill(
    account: Account,
    *,
    calls: int,
    seed: int = 1,
    now: datetime | None = None,
    in_full: int = EACH_IN_FULL,
) -> None:
    """Give an account ended calls over the year until ``now``; raise :class:`AlreadyCalled`.

    The same seed, account, number of calls and time make the same calls.

    :param in_full: one call in this many has a timeline and callbacks.
    """
    if Call.objects.of(account).exists():
        raise AlreadyCalled
    numbers = _numbers_of(account, _chance(f"{seed} {account.email} numbers"))
    chance = _chance(f"{seed} {account.email}")
    days = Days()
    made_up = _made_up(chance, numbers, calls, (now or timezone.now()) - _LATEST)
    _trust_references()
    for rows in _ahead(_rows(account.id, chance, made_up, calls, days, in_full)):
        rows.write()
    days.save(account)


def _chance(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 (nothing of it is secret)


def _ahead(some: Iterator[Rows]) -> Iterator[Rows]:
    """Yield them while a thread generates the next ones: PostgreSQL takes as long as we do."""
    with ThreadPoolExecutor(1) as executor:
        following = executor.submit(next, some, None)
        while rows := following.result():
            following = executor.submit(next, some, None)
            yield rows


def _trust_references() -> None:
    """Skip the check of foreign keys in this transaction, if the database allows that."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('is_superuser')")
        if cursor.fetchone() == ("on",):
            cursor.execute("SET LOCAL session_replication_role = replica")


def _numbers_of(account: Account, chance: random.Random) -> list[str]:
    """Return the account's numbers; create some if it has none."""
    known = account.phone_numbers.order_by("phone_number")
    numbers = list(known.values_list("phone_number", flat=True))
    if not numbers:
        numbers = [f"+1989{chance.randrange(10**7):07}" for _ in range(_NUMBERS)]
        PhoneNumber.objects.bulk_create(
            PhoneNumber(
                account=account,
                phone_number=number,
                on_call_start_url=f"{_BACKEND}/start",
                on_call_end_url=f"{_BACKEND}/end",
                on_error_url=f"{_BACKEND}/error",
            )
            for number in numbers
        )
    return numbers


def _made_up(
    chance: random.Random, numbers: Sequence[str], count: int, latest: datetime
) -> Iterator[MadeUp]:
    """Yield calls, oldest first."""
    inbound_shares = list(accumulate(end[4] for end in _ENDS))
    outbound_shares = list(accumulate(end[5] for end in _ENDS))
    step = YEAR / max(count, 1)
    for number in range(count):
        created_at = latest - YEAR + (number + chance.random()) * step
        is_inbound = chance.random() < 0.7
        shares = inbound_shares if is_inbound else outbound_shares
        reason, error_code, status, connected, *_ = chance.choices(_ENDS, cum_weights=shares)[0]
        seconds = min(_LONGEST_S, 3 + int(chance.expovariate(1 / 150))) if connected else 0
        answered_at = created_at + timedelta(seconds=4) if connected else None
        yield MadeUp(
            id=_id_at(created_at, chance),
            sid=f"CA{chance.getrandbits(128):032x}",
            direction="inbound" if is_inbound else "outbound",
            our_number=chance.choice(numbers),
            other=f"+1555{chance.randrange(10**7):07}",
            reason=reason,
            error_code=error_code,
            status=status,
            created_at=created_at,
            accepted_at=None
            if reason is EndedReason.REJECTED
            else created_at + timedelta(seconds=1),
            answered_at=answered_at,
            ended_at=(answered_at or created_at) + timedelta(seconds=seconds or 20),
            seconds=seconds,
        )


def _rows(
    account_id: str,
    chance: random.Random,
    calls: Iterable[MadeUp],
    count: int,
    days: Days,
    in_full: int,
) -> Iterator[Rows]:
    """Yield the rows in batches, and sum them up by day."""
    rows = Rows()
    for number, call in enumerate(calls):
        _add_call(rows, account_id, call, chance)
        days.add(call, chance)
        if call.accepted_at:
            _add_usage(rows, account_id, call, chance)
        if number % in_full == 0 or number >= count - _NEWEST_IN_FULL:
            _add_details(rows, account_id, call, chance)
        if len(rows.calls) == _AT_A_TIME:
            yield rows
            rows = Rows()
    yield rows


def _add_call(rows: Rows, account_id: str, call: MadeUp, chance: random.Random) -> None:
    metadata = None
    if call.accepted_at:
        values = {"order": f"A-{chance.randrange(10_000)}", "source": COMMON_VALUE}
        metadata = json.dumps(values)
        rows.metadata += [
            (account_id, call.id, call.created_at, value) for value in values.values()
        ]
    answered_by = "human" if call.direction == "outbound" and call.answered_at else ""
    rows.calls.append(
        (
            *(call.id, account_id, call.sid, call.direction, call.status, *call.ends),
            *(answered_by, call.reason, call.error_code, metadata),
            *(f"{_BACKEND}/start", f"{_BACKEND}/end", f"{_BACKEND}/error"),
            *(call.created_at, call.accepted_at, call.answered_at, call.billed_from),
            *(call.answered_at and call.ended_at, call.ended_at, call.seconds),
        )
    )


def _add_usage(rows: Rows, account_id: str, call: MadeUp, chance: random.Random) -> None:
    record_id = _id_at(call.ended_at, chance)
    minutes = call.minutes
    rows.usage.append(
        (
            *(record_id, account_id, call.sid, call.direction, *call.ends),
            *(call.seconds, minutes, minutes * settings.PER_MINUTE_RATE),
            *(_twilio_cost(call.direction, call.our_number, whole_minutes(call.seconds)),),
            *(call.seconds * _OPENAI_PER_SECOND, call.ended_at),
        )
    )
    if minutes:
        at = call.ended_at + timedelta(minutes=1)
        rows.meter.append(
            (call.sid, record_id, account_id, minutes, call.ended_at, "sent", 1, at, at, at)
        )


_twilio_cost = lru_cache(maxsize=1000)(twilio_cost)


def _add_details(rows: Rows, account_id: str, call: MadeUp, chance: random.Random) -> None:
    """Add a call's timeline, and the callbacks that were sent about it."""
    timeline = list(_timeline(call, chance))
    if call.ended_at < timezone.now() - PACKED_AFTER:
        rows.timelines.append((call.id, account_id, pack(timeline)))
    else:
        rows.events += [
            (account_id, call.id, at, kind, json.dumps(detail)) for at, kind, detail in timeline
        ]
    if call.accepted_at:
        at = call.ended_at + timedelta(seconds=1)
        taken = chance.random() < 0.95
        state, attempts, result = ("delivered", 1, "200") if taken else ("given-up", 8, "503")
        id = _id_at(call.ended_at, chance)
        rows.deliveries.append(
            (
                *(id, account_id, call.id, "onCallEnd", f"{_BACKEND}/end"),
                *(state, attempts, result, at, call.ended_at, at),
            )
        )
        rows.attempts += [
            (id, at, chance.randrange(20, 900), result, chance.randbytes(_SEALED_BYTES))
            for _ in range(attempts)
        ]


def _timeline(
    call: MadeUp, chance: random.Random
) -> Iterator[tuple[datetime, EventKind, dict[str, Any]]]:
    is_inbound = call.direction == "inbound"
    yield call.created_at, EventKind.RECEIVED if is_inbound else EventKind.PLACED, {}
    if call.accepted_at:
        asked = {"onCallStartMs": chance.randrange(40, 900), "onCallStartStatus": 200}
        yield call.accepted_at, EventKind.ACCEPTED, asked
    if call.answered_at and call.billed_from:
        yield call.answered_at, EventKind.CONNECTED, {}
        model = {"ms": chance.randrange(200, 900), "model": "gpt-realtime-1.5"}
        yield call.billed_from, EventKind.MODEL_READY, model
        for turn in range(call.seconds // _TURNS_TAKE_S):
            at = call.billed_from + timedelta(seconds=turn * _TURNS_TAKE_S + 5)
            yield from _turn(at, chance, has_tool=turn % 4 == 1)
    yield call.ended_at, EventKind.ENDED, {"reason": call.reason}


def _turn(
    at: datetime, chance: random.Random, *, has_tool: bool
) -> Iterator[tuple[datetime, EventKind, dict[str, Any]]]:
    """Yield what the timeline has of a turn of each side."""
    yield at, EventKind.CALLER_SPOKE, {"ms": chance.randrange(400, 6000)}
    if has_tool:
        ms = chance.randrange(20, 900)
        yield at, EventKind.TOOL_CALLED, {"tool": "look_up_order"}
        at += timedelta(milliseconds=ms)
        yield at, EventKind.TOOL_RETURNED, {"ms": ms, "tool": "look_up_order"}
    latency = chance.randrange(300, 1800)
    at += timedelta(milliseconds=latency)
    yield at, EventKind.AGENT_SPOKE, {"latencyMs": latency}
    heard = latency + chance.randrange(60, 250)
    yield at + timedelta(seconds=1), EventKind.AGENT_HEARD, {"latencyMs": heard}
    at += timedelta(milliseconds=chance.randrange(1000, 3000))
    yield at, EventKind.RESPONSE_DONE, {"status": "completed"}


def _id_at(moment: datetime, chance: random.Random) -> str:
    """Return an id in the product's format that was made at this time."""
    return f"{first_id_of(moment)}{chance.getrandbits(64):016x}"


def copy_in(model: type[models.Model], columns: Sequence[str], rows: Sequence[Row]) -> None:
    """COPY rows into a model's table; columns that are not named get their field's default."""
    others = [
        each
        for each in model._meta.concrete_fields
        if each.attname not in columns and not each.has_db_default() and not _is_counted(each)
    ]
    defaults = tuple(each.get_db_prep_save(each.get_default(), connection) for each in others)
    names = ", ".join(
        connection.ops.quote_name(name)
        for name in (*columns, *(str(each.column) for each in others))
    )
    table = connection.ops.quote_name(model._meta.db_table)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row((*row, *defaults))


def _is_counted(each: models.Field[Any, Any]) -> bool:
    return isinstance(each, models.AutoField)
