"""How an account's calls came out, and how fast they were, by day and number, counted at their end.

A call counts on the day it began, in the zone that its account had when it ended. Latencies are
kept as counts of buckets, so that days can be added up; a percentile is accurate to within 10%.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Self

from django.db import connection
from django.db.models import Sum

from accounts.models import Account
from core.zones import zone_of
from telephony.call_figures import Figures
from telephony.models import Call, CallDay, NumberDay

# Latencies are from 10 ms, in buckets that grow by a fifth, to more than a minute.
_LEAST_MS = 10
_PER_DOUBLING = 4
BUCKETS = 52

_BUMP = """
    INSERT INTO telephony_callday AS day (
        account_id, day, completed, unanswered, rejected, failed, on_call_start, turns
    )
    VALUES (
        %(account_id)s, %(day)s, %(completed)s, %(unanswered)s, %(rejected)s, %(failed)s,
        %(on_call_start)s::integer[], %(turns)s::integer[]
    )
    ON CONFLICT (account_id, day) DO UPDATE SET
        completed = day.completed + EXCLUDED.completed,
        unanswered = day.unanswered + EXCLUDED.unanswered,
        rejected = day.rejected + EXCLUDED.rejected,
        failed = day.failed + EXCLUDED.failed,
        on_call_start = ARRAY(
            SELECT coalesce(a, 0) + coalesce(b, 0)
            FROM unnest(day.on_call_start, EXCLUDED.on_call_start) WITH ORDINALITY AS p (a, b, n)
            ORDER BY n
        ),
        turns = ARRAY(
            SELECT coalesce(a, 0) + coalesce(b, 0)
            FROM unnest(day.turns, EXCLUDED.turns) WITH ORDINALITY AS p (a, b, n)
            ORDER BY n
        )
"""

_BUMP_NUMBER = """
    INSERT INTO telephony_numberday AS day (account_id, day, number, responses, turns)
    VALUES (%(account_id)s, %(day)s, %(number)s, %(responses)s, %(turns)s::integer[])
    ON CONFLICT (account_id, day, number) DO UPDATE SET
        responses = day.responses + EXCLUDED.responses,
        turns = ARRAY(
            SELECT coalesce(a, 0) + coalesce(b, 0)
            FROM unnest(day.turns, EXCLUDED.turns) WITH ORDINALITY AS p (a, b, n)
            ORDER BY n
        )
"""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies as counts of buckets."""

    counts: Sequence[int]

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Self:
        counts = [0] * BUCKETS
        for each in milliseconds:
            counts[_bucket(each)] += 1
        return cls(counts)

    def __add__(self, other: Latencies) -> Latencies:
        return Latencies([a + b for a, b in zip(self.counts, other.counts, strict=True)])

    def percentile(self, share: float) -> int | None:
        """Return the milliseconds that a share of them did not exceed; None if there are none."""
        wanted = share * sum(self.counts)
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return round(_LEAST_MS * 2 ** ((bucket + 0.5) / _PER_DOUBLING))
        return None


def call_count(call: Call, figures: Figures, *, times: int = 1) -> None:
    """Count an ended call, in the transaction that ends it; ``times=-1`` undoes that."""
    zone = Account.objects.values_list("time_zone", flat=True).get(pk=call.account_id)
    values: dict[str, Any] = {
        "account_id": call.account_id,
        "day": call.created_at.astimezone(zone_of(zone)).date(),
        **{name: times * (call.outcome == name) for name in CallDay.OUTCOMES},
        "on_call_start": [times * count for count in Latencies.of(figures.on_call_start).counts],
        "turns": [times * count for count in Latencies.of(figures.turns).counts],
    }
    with connection.cursor() as cursor:
        cursor.execute(_BUMP, values)
        if figures.turns:
            number, _ = call.numbers
            responses = times * len(figures.turns)
            cursor.execute(_BUMP_NUMBER, values | {"number": number, "responses": responses})


def days_since(account: Account, first: date) -> dict[date, CallDay]:
    """Return the account's days with calls, from the first one on."""
    days = CallDay.objects.of(account).filter(day__gte=first)
    return {each.day: each for each in days}


@dataclass(frozen=True, slots=True)
class NumberTurns:
    """The agent's turns in the calls of one of the account's numbers."""

    number: str
    responses: int
    latencies: Latencies


def busiest_numbers(account: Account, first: date, *, most: int) -> list[NumberTurns]:
    """Return the numbers with the most turns from a day on, the busiest first: two queries.

    Both read the days asked for, a row for each number.
    """
    days = NumberDay.objects.of(account).filter(day__gte=first)
    counted = days.values("number").annotate(count=Sum("responses")).filter(count__gt=0)
    counts = dict(counted.order_by("-count", "number").values_list("number", "count")[:most])
    turns: defaultdict[str, Latencies] = defaultdict(lambda: Latencies.of([]))
    if counts:
        for day in days.filter(number__in=counts):
            turns[day.number] += Latencies(day.turns)
    return [NumberTurns(number, count, turns[number]) for number, count in counts.items()]


def _bucket(milliseconds: float) -> int:
    if milliseconds <= _LEAST_MS:
        return 0
    return min(int(_PER_DOUBLING * math.log2(milliseconds / _LEAST_MS)), BUCKETS - 1)
