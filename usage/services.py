"""Services that record the usage of a call."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypedDict, Unpack

from django.conf import settings
from django.db import connection
from django.db.transaction import TransactionManagementError

from usage.models import SUMMED, UsageRecord
from usage.spending import spending_tell

# The database adds, so that calls that end at the same time wait for each other.
_BUMP_DAY = """
    INSERT INTO usage_dailyusage AS row (account_id, day, calls, minutes)
    VALUES (%(account_id)s, %(day)s, %(calls)s, %(minutes)s)
    ON CONFLICT (account_id, day)
    DO UPDATE SET calls = row.calls + EXCLUDED.calls, minutes = row.minutes + EXCLUDED.minutes
"""
_BUMP_TOTAL = """
    INSERT INTO usage_totalusage AS row (account_id, calls, minutes)
    VALUES (%(account_id)s, %(calls)s, %(minutes)s)
    ON CONFLICT (account_id)
    DO UPDATE SET calls = row.calls + EXCLUDED.calls, minutes = row.minutes + EXCLUDED.minutes
"""


class Used(TypedDict):
    """The usage of a call; costs in USD. It counts for the UTC day on which the call ended.

    ``duration_seconds`` is the time of the caller's audio. ``billed_seconds`` is the part of it for
    which the platform charges.
    """

    account_id: str
    call_sid: str
    direction: str
    caller_phone: str
    called_number: str
    duration_seconds: int
    billed_seconds: int
    twilio_cost: Decimal
    openai_cost: Decimal
    ended_at: datetime


def usage_record_create(**used: Unpack[Used]) -> UsageRecord:
    """Record an ended call and add it to the account's totals, in the caller's transaction.

    If the call is recorded already, nothing changes, and its record is returned. If the call
    reaches a mark of the spending limit, an email is queued.
    """
    _require_transaction()
    record = _record(used)
    UsageRecord.objects.bulk_create([record], ignore_conflicts=True)
    stored = UsageRecord.objects.get(call_sid=used["call_sid"], part=1)
    if stored.id == record.id:
        _count(record, calls=1)
    return stored


def usage_record_complete(**used: Unpack[Used]) -> UsageRecord:
    """Record the rest of a call that was recorded too early; return the sum, unsaved.

    What its records lack is stored as another part and added to the totals. No charge is taken
    back. The caller holds a lock on the call.
    """
    _require_transaction()
    usage_record_create(**used)
    records = UsageRecord.objects.filter(call_sid=used["call_sid"])
    whole = records.by_call([used["call_sid"]])[used["call_sid"]]
    rest = _record(used)
    for name in SUMMED:
        setattr(rest, name, max(getattr(rest, name) - getattr(whole, name), 0))
    if not any(getattr(rest, name) for name in SUMMED):
        return whole
    rest.part = whole.part + 1
    rest.save(force_insert=True)
    _count(rest, calls=0)
    return whole.plus(rest)


def _record(used: Used) -> UsageRecord:
    """Return an unsaved record of the usage."""
    ended_at = used["ended_at"]
    not_stored = ("billed_seconds", "ended_at")
    facts = {name: value for name, value in used.items() if name not in not_stored}
    minutes = whole_minutes(used["billed_seconds"])
    cost = minutes * settings.PER_MINUTE_RATE
    return UsageRecord(**facts, minutes=minutes, platform_cost=cost, created_at=ended_at)


def _require_transaction() -> None:
    if not connection.in_atomic_block:
        raise TransactionManagementError("Record usage in the transaction that ends the call.")


def _count(record: UsageRecord, *, calls: int) -> None:
    day = record.created_at.astimezone(UTC).date()
    _add_to_totals(record.account_id, day, calls, record.minutes)
    spending_tell(account_id=record.account_id, day=day)


def whole_minutes(seconds: int) -> int:
    """Return the billed minutes: every started minute counts."""
    return -(-seconds // 60)


def _add_to_totals(account_id: str, day: date, calls: int, minutes: int) -> None:
    values: dict[str, str | int | date] = {
        "account_id": account_id,
        "day": day,
        "calls": calls,
        "minutes": minutes,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BUMP_DAY, values)
        cursor.execute(_BUMP_TOTAL, values)
